#!/usr/bin/env bash
# The whole job on the demo world: render, pack, pretrain a baseline and a debiased model, transfer, measure, report.
# Usage: tools/demo.sh [folder], by default runs/demo. What is done already is not done again.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment

out=${1:-runs/demo}
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
processes=$((gpus == 0 || gpus > 2 ? 2 : gpus))
# A small network that starts at random, on small frames, every second of them: what two CPU cores can train in minutes.
small=(--frames 8 --stride 2 --size 56 --scales 1.0 0.84 --optimizer adamw --weight-decay 0.01 --warmup-epochs 2
    --schedule cosine --loader-threads 1)

step() { printf '\n== %s\n' "$*"; }
train() { torchrun --standalone --nproc_per_node="$processes" -m "$@"; }

step "1/5 rendering the demo world"
python -m scenebias.demo.render --seed 1 --out "$out/world"

step "2/5 packing"
for split in train test swapped scene-only human-only target-train target-test; do
    world=$out/world/$split
    python tools/make_shards.py folder --root "$world/videos" --masks "$world/masks" --scenes "$world/scene_probs.npz" \
        --dataset demo --subset "$split" --height 64 --mask-scale 1 --out "$out/shards/$split"
done

step "3/5 pretraining a baseline and a debiased model"
# In this world the scene nearly is the action, so unlearning it hard would unlearn the action: a small --alpha-scene.
# Both weights are those that tools/study.sh chose, on another world.
for objective in baseline debias; do
    train scenebias.pretrain --train "$out/shards/train" --val "$out/shards/test" --objective "$objective" \
        --alpha-scene 0.03 --alpha-mask 1.0 --backbone small3d --epochs 30 --learning-rate 4e-3 "${small[@]}" \
        --out "$out/pretrain-$objective"
done

step "4/5 transfer to new actions"
train scenebias.transfer --weights "$out"/pretrain-{baseline,debias}/weights.safetensors --scratch \
    --train "$out/shards/target-train" --val "$out/shards/target-test" \
    --epochs 30 --learning-rate 2e-3 "${small[@]}" --out "$out/transfer"

step "5/5 measuring"
python -m scenebias.demo.results --out "$out"
