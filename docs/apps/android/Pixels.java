package org.example.whatisit;

/** The pixels that the model was trained on: the same arithmetic in the same order. */
public final class Pixels {
    private Pixels() {}

    /**
     * A photograph as it is meant to be seen.
     *
     * @param argb decoded pixels, row by row; it is returned where nothing is to be turned
     * @param orientation of EXIF, 1 to 8; with 5 to 8 width and height change places
     */
    public static int[] upright(int[] argb, int width, int height, int orientation) {
        if (orientation < 2 || orientation > 8) {
            return argb;
        }
        boolean across = orientation >= 5;
        boolean fromRight = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
        boolean fromBelow = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
        int wide = across ? height : width;
        int[] turned = new int[argb.length];
        for (int at = 0; at < turned.length; at++) {
            int x = across ? at / wide : at % wide;
            int y = across ? at % wide : at / wide;
            turned[at] = argb[(fromBelow ? height - 1 - y : y) * width + (fromRight ? width - 1 - x : x)];
        }
        return turned;
    }

    /**
     * A photograph as the model's input.
     *
     * @param argb decoded pixels, upright, row by row, as Bitmap.getPixels gives them
     * @param side input_size of deployment.json
     * @param area whether its resize is "area"
     * @return side * side * 3 bytes, RGB
     */
    public static byte[] resized(int[] argb, int width, int height, int side, boolean area) {
        Sources down = new Sources(height, side, area);
        Sources across = new Sources(width, side, area);
        byte[] pixels = new byte[side * side * 3];
        float[] row = new float[width * 3];
        for (int y = 0; y < side; y++) {
            java.util.Arrays.fill(row, 0f);
            for (int tap = 0; tap < down.taps[y].length; tap++) {
                int start = down.taps[y][tap] * width;
                float part = down.parts[y][tap];
                for (int x = 0; x < width; x++) {
                    int pixel = overWhite(argb[start + x]);
                    row[x * 3] += (pixel >> 16 & 255) * part;
                    row[x * 3 + 1] += (pixel >> 8 & 255) * part;
                    row[x * 3 + 2] += (pixel & 255) * part;
                }
            }
            for (int x = 0; x < side; x++) {
                for (int channel = 0; channel < 3; channel++) {
                    float sum = 0f;
                    for (int tap = 0; tap < across.taps[x].length; tap++) {
                        sum += row[across.taps[x][tap] * 3 + channel] * across.parts[x][tap];
                    }
                    pixels[(y * side + x) * 3 + channel] = (byte) (int) (sum + 0.5f);
                }
            }
        }
        return pixels;
    }

    /** What is transparent shows a white page. */
    private static int overWhite(int argb) {
        int alpha = argb >>> 24;
        if (alpha == 255) {
            return argb;
        }
        int mixed = 0;
        for (int shift = 16; shift >= 0; shift -= 8) {
            int blended = ((argb >> shift & 255) * alpha + 255 * (255 - alpha) + 127) / 255;
            mixed |= blended << shift;
        }
        return mixed;
    }

    /** Which pixels of a side of the photograph make each pixel of the input, and by what part. */
    private static final class Sources {
        final int[][] taps;
        final float[][] parts;

        Sources(int length, int side, boolean area) {
            taps = new int[side][];
            parts = new float[side][];
            for (int at = 0; at < side; at++) {
                if (area && length > side) {
                    double start = at * ((double) length / side);
                    double end = (at + 1) * ((double) length / side);
                    int first = (int) Math.floor(start);
                    int count = (int) Math.ceil(Math.min(end, length)) - first;
                    taps[at] = new int[count];
                    parts[at] = new float[count];
                    for (int tap = 0; tap < count; tap++) {
                        int pixel = first + tap;
                        double covered = Math.min(end, pixel + 1) - Math.max(start, pixel);
                        taps[at][tap] = pixel;
                        parts[at][tap] = (float) (covered * ((double) side / length));
                    }
                } else {
                    float place = (at + 0.5f) * ((float) length / side);
                    float low = (float) Math.floor(place - 0.5f);
                    float upper = place - 0.5f - low;
                    taps[at] = new int[] {inside((int) low, length), inside((int) low + 1, length)};
                    parts[at] = new float[] {1 - upper, upper};
                }
            }
        }

        private static int inside(int pixel, int length) {
            return Math.min(Math.max(pixel, 0), length - 1);
        }
    }
}
