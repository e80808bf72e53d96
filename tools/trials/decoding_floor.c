/* libjpeg-turbo alone, for decoding_floor.py: decodes one JPEG, with the settings that it is told. */
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

struct failing {
    struct jpeg_error_mgr manager;
    jmp_buf out;
};

static void fail(j_common_ptr common) {
    longjmp(((struct failing *)common->err)->out, 1);
}

static void keep_quiet(j_common_ptr common, int level) {
    (void)common;
    (void)level;
}

static void begin(struct jpeg_decompress_struct *jpeg, struct failing *errors, const unsigned char *data,
                  unsigned long size) {
    jpeg->err = jpeg_std_error(&errors->manager);
    errors->manager.error_exit = fail;
    errors->manager.emit_message = keep_quiet;
    jpeg_create_decompress(jpeg);
    jpeg_mem_src(jpeg, data, size);
    jpeg_read_header(jpeg, TRUE);
}

/* All rows as RGB into ``pixels``, of the blocks that hold the columns [first, first + columns). Returns how many
 * columns that are, 0 where it cannot be decoded. */
unsigned decode(const unsigned char *data, unsigned long size, unsigned first, unsigned columns, int fast_idct,
                int fancy, unsigned char *pixels) {
    struct jpeg_decompress_struct jpeg;
    struct failing errors;
    if (setjmp(errors.out)) {
        jpeg_destroy_decompress(&jpeg);
        return 0;
    }
    begin(&jpeg, &errors, data, size);
    jpeg.out_color_space = JCS_RGB;
    jpeg.dct_method = fast_idct ? JDCT_IFAST : JDCT_ISLOW;
    jpeg.do_fancy_upsampling = fancy;
    jpeg_start_decompress(&jpeg);
    JDIMENSION offset = first, width = columns;
    if (columns < jpeg.output_width)
        jpeg_crop_scanline(&jpeg, &offset, &width);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = pixels;
        jpeg_read_scanlines(&jpeg, &row, 1);
        pixels += 3 * width;
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return width;
}

/* All planes as they are stored: no interpolation and no conversion of colours, the exact inverse transform. */
int decode_planes(const unsigned char *data, unsigned long size, unsigned char *scratch) {
    struct jpeg_decompress_struct jpeg;
    struct failing errors;
    if (setjmp(errors.out)) {
        jpeg_destroy_decompress(&jpeg);
        return 1;
    }
    begin(&jpeg, &errors, data, size);
    jpeg.raw_data_out = TRUE;
    jpeg_start_decompress(&jpeg);
    JSAMPROW rows[3][16];
    JSAMPARRAY planes[3] = {rows[0], rows[1], rows[2]};
    while (jpeg.output_scanline < jpeg.output_height) {
        unsigned char *place = scratch;
        for (int plane = 0; plane < jpeg.num_components; plane++)
            for (int row = 0; row < 8 * jpeg.comp_info[plane].v_samp_factor; row++) {
                rows[plane][row] = place;
                place += 8 * jpeg.comp_info[plane].width_in_blocks + 64;
            }
        jpeg_read_raw_data(&jpeg, planes, 8 * jpeg.max_v_samp_factor);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return 0;
}

/* The entropy coding undone, and nothing else. */
int decode_coefficients(const unsigned char *data, unsigned long size) {
    struct jpeg_decompress_struct jpeg;
    struct failing errors;
    if (setjmp(errors.out)) {
        jpeg_destroy_decompress(&jpeg);
        return 1;
    }
    begin(&jpeg, &errors, data, size);
    jpeg_read_coefficients(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return 0;
}
