package org.example.whatisit;

import android.app.Activity;
import android.content.Intent;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.media.ExifInterface;
import android.net.Uri;
import android.os.Bundle;
import android.widget.Button;
import android.widget.LinearLayout;
import android.widget.TextView;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;
import org.tensorflow.lite.Interpreter;

/** Choose a photograph, read what it is. In assets/: model.tflite and deployment.json of an export. */
public final class MainActivity extends Activity {
    private JSONObject info;
    private Interpreter model;
    private TextView answer;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        Button choose = new Button(this);
        choose.setText("Choose a photograph");
        choose.setOnClickListener(view -> {
            Intent wish = new Intent(Intent.ACTION_GET_CONTENT).setType("image/*");
            startActivityForResult(wish, 1);
        });
        answer = new TextView(this);
        LinearLayout page = new LinearLayout(this);
        page.setOrientation(LinearLayout.VERTICAL);
        page.addView(choose);
        page.addView(answer);
        setContentView(page);
        try {
            info = new JSONObject(new String(asset("deployment.json"), StandardCharsets.UTF_8));
            String resize = info.getString("resize");
            if (!resize.equals("bilinear") && !resize.equals("area")) {
                throw new IOException("resizing as in " + resize + " is not written here");
            }
            byte[] bytes = asset(info.getString("model"));
            ByteBuffer file = ByteBuffer.allocateDirect(bytes.length).order(ByteOrder.nativeOrder());
            file.put(bytes);
            model = new Interpreter(file, new Interpreter.Options());
        } catch (IOException | JSONException error) {
            answer.setText("The model cannot be read: " + error.getMessage());
            choose.setEnabled(false);
        }
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        if (result != RESULT_OK || data == null || data.getData() == null) {
            return;
        }
        try {
            answer.setText(classify(data.getData()));
        } catch (IOException | JSONException error) {
            answer.setText("This photograph cannot be used: " + error.getMessage());
        }
    }

    private String classify(Uri place) throws IOException, JSONException {
        Bitmap photo;
        try (InputStream stream = getContentResolver().openInputStream(place)) {
            BitmapFactory.Options options = new BitmapFactory.Options();
            options.inPremultiplied = false;
            photo = BitmapFactory.decodeStream(stream, null, options);
        }
        if (photo == null) {
            throw new IOException("not an image");
        }
        int width = photo.getWidth();
        int height = photo.getHeight();
        int[] argb = numbers(photo, width, height);
        int orientation;
        try (InputStream stream = getContentResolver().openInputStream(place)) {
            orientation = new ExifInterface(stream).getAttributeInt(ExifInterface.TAG_ORIENTATION, 1);
        }
        argb = Pixels.upright(argb, width, height, orientation);
        if (orientation >= 5 && orientation <= 8) {
            int other = width;
            width = height;
            height = other;
        }
        int side = info.getInt("input_size");
        byte[] pixels = Pixels.resized(argb, width, height, side, info.getString("resize").equals("area"));
        ByteBuffer input = ByteBuffer.allocateDirect(pixels.length).order(ByteOrder.nativeOrder());
        input.put(pixels).rewind();
        JSONArray labels = info.getJSONArray("labels");
        boolean binary = info.getString("task").equals("binary");
        float[][] output = new float[1][binary ? 1 : labels.length()];
        model.run(input, output);
        return told(output[0], labels);
    }

    /** The numbers as the decoder left them: Bitmap.getPixels would convert those of other colour spaces to sRGB. */
    private static int[] numbers(Bitmap photo, int width, int height) {
        int[] argb = new int[width * height];
        if (photo.getConfig() != Bitmap.Config.ARGB_8888 || photo.getRowBytes() != 4 * width) {
            photo.getPixels(argb, 0, width, 0, 0, width, height);
            return argb;
        }
        ByteBuffer rgba = ByteBuffer.allocate(4 * width * height).order(ByteOrder.BIG_ENDIAN);
        photo.copyPixelsToBuffer(rgba);
        rgba.rewind();
        rgba.asIntBuffer().get(argb);
        for (int at = 0; at < argb.length; at++) {
            argb[at] = Integer.rotateRight(argb[at], 8);
        }
        return argb;
    }

    /** The label, whether the model is sure, and the probability of each class. */
    private String told(float[] output, JSONArray labels) throws JSONException {
        double threshold = info.getDouble("threshold");
        String task = info.getString("task");
        List<String> found = new ArrayList<>();
        StringBuilder figures = new StringBuilder();
        double sure = 1;
        int largest = 0;
        for (int at = 0; at < labels.length(); at++) {
            String name = labels.getString(at);
            double probability = output[task.equals("binary") ? 0 : at];
            if (task.equals("binary")) {
                boolean positive = name.equals(info.getString("positive"));
                boolean yes = probability >= threshold;
                probability = positive ? probability : 1 - probability;
                if (positive == yes) {
                    found.add(name);
                    sure = probability;
                }
            } else if (task.equals("multilabel")) {
                boolean yes = probability >= threshold;
                sure = Math.min(sure, yes ? probability : 1 - probability);
                if (yes) {
                    found.add(name);
                }
            } else if (output[at] > output[largest]) {
                largest = at;
            }
            figures.append('\n').append(name).append(' ').append(String.format("%.3f", probability));
        }
        if (task.equals("multiclass")) {
            found.add(labels.getString(largest));
            sure = output[largest];
        }
        String label = found.isEmpty() ? "none of the classes" : String.join(";", found);
        return label + (sure >= info.getDouble("sure_from") ? "" : " (unsure)") + figures;
    }

    private byte[] asset(String name) throws IOException {
        try (InputStream stream = getAssets().open(name)) {
            byte[] bytes = new byte[stream.available()];
            for (int read = 0; read < bytes.length; ) {
                int more = stream.read(bytes, read, bytes.length - read);
                if (more < 0) {
                    throw new IOException(name + " is shorter than it said");
                }
                read += more;
            }
            return bytes;
        }
    }
}
