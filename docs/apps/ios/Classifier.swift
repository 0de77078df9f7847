// Swift package: https://github.com/microsoft/onnxruntime-swift-package-manager (product "onnxruntime").
// In the app's bundle: model.onnx and deployment.json of an export.
import CoreGraphics
import Foundation
import ImageIO
import OnnxRuntimeBindings

/// What deployment.json says.
struct Deployment: Decodable {
    let model, task, resize: String
    let labels: [String]
    let positive: String?
    let threshold, sure_from: Double
    let input_size: Int
}

struct Answer {
    let label: String
    let sure: Bool
    let probabilities: [String: Double]
}

final class Classifier {
    let info: Deployment
    private let environment: ORTEnv  // has to live as long as the session
    private let session: ORTSession

    init(bundle: Bundle = .main) throws {
        guard let place = bundle.url(forResource: "deployment", withExtension: "json") else {
            throw CocoaError(.fileNoSuchFile)
        }
        info = try JSONDecoder().decode(Deployment.self, from: Data(contentsOf: place))
        guard ["bilinear", "area"].contains(info.resize) else { throw CocoaError(.featureUnsupported) }
        let path = place.deletingLastPathComponent().appendingPathComponent(info.model).path
        environment = try ORTEnv(loggingLevel: .warning)
        session = try ORTSession(env: environment, modelPath: path, sessionOptions: nil)
    }

    /// Label, whether it is sure, and the probability of each class of an image file.
    func classify(_ file: Data) throws -> Answer {
        let side = info.input_size
        let (pixels, width, height) = try decoded(file)
        let bytes = NSMutableData(data: Data(
            resized(pixels, width: width, height: height, side: side, area: info.resize == "area")))
        let shape = [1, side, side, 3].map { NSNumber(value: $0) }
        let input = try ORTValue(tensorData: bytes, elementType: .uInt8, shape: shape)
        let outputs = Set(try session.outputNames())
        let found = try session.run(
            withInputs: [try session.inputNames()[0]: input], outputNames: outputs, runOptions: nil)
        let output = try found.values.first!.tensorData() as Data
        let values = output.withUnsafeBytes { $0.bindMemory(to: Float.self).map(Double.init) }
        return told(values)
    }

    private func told(_ output: [Double]) -> Answer {
        var probabilities = output
        if info.task == "binary" {
            probabilities = info.labels.map { $0 == info.positive ? output[0] : 1 - output[0] }
            let yes = output[0] >= info.threshold
            let at = info.labels.firstIndex { ($0 == info.positive) == yes }!
            return answer([at], probabilities[at], probabilities)
        }
        if info.task == "multiclass" {
            let at = probabilities.firstIndex(of: probabilities.max()!)!
            return answer([at], probabilities[at], probabilities)
        }
        let yes = probabilities.indices.filter { probabilities[$0] >= info.threshold }
        let surest = probabilities.map { $0 >= info.threshold ? $0 : 1 - $0 }.min()!
        return answer(yes, surest, probabilities)
    }

    private func answer(_ found: [Int], _ probability: Double, _ all: [Double]) -> Answer {
        Answer(
            label: found.map { info.labels[$0] }.joined(separator: ";"),
            sure: probability >= info.sure_from,
            probabilities: Dictionary(uniqueKeysWithValues: zip(info.labels, all)))
    }
}

/// Decoded pixels RGBA, upright; what is transparent shows a white page.
func decoded(_ file: Data) throws -> ([UInt8], Int, Int) {
    guard let source = CGImageSourceCreateWithData(file as CFData, nil),
        let facts = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any],
        let longest = [kCGImagePropertyPixelWidth, kCGImagePropertyPixelHeight].compactMap({ facts[$0] as? Int }).max(),
        // A thumbnail of full size is the image, turned as its EXIF says.
        let image = CGImageSourceCreateThumbnailAtIndex(
            source, 0,
            [
                kCGImageSourceCreateThumbnailFromImageAlways: true,
                kCGImageSourceCreateThumbnailWithTransform: true,
                kCGImageSourceThumbnailMaxPixelSize: longest,
            ] as CFDictionary)
    else { throw CocoaError(.fileReadCorruptFile) }
    let (width, height) = (image.width, image.height)
    var pixels = [UInt8](repeating: 255, count: width * height * 4)
    pixels.withUnsafeMutableBytes { memory in
        // The image's own colour space: no conversion of its numbers.
        let space = image.colorSpace?.model == .rgb ? image.colorSpace! : CGColorSpaceCreateDeviceRGB()
        let canvas = CGContext(
            data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: width * 4,
            space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)!
        canvas.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
    }
    return (pixels, width, height)
}

/// uint8 (side, side, 3), RGB: the arithmetic of training in the same order, in Float.
func resized(_ rgba: [UInt8], width: Int, height: Int, side: Int, area: Bool) -> [UInt8] {
    let (down, across) = (sources(height, side, area), sources(width, side, area))
    var pixels = [UInt8](repeating: 0, count: side * side * 3)
    var row = [Float](repeating: 0, count: width * 3)
    for y in 0..<side {
        for at in row.indices { row[at] = 0 }
        for (from, part) in down[y] {
            for x in 0..<width {
                for channel in 0..<3 {
                    row[x * 3 + channel] += Float(rgba[(from * width + x) * 4 + channel]) * part
                }
            }
        }
        for x in 0..<side {
            for channel in 0..<3 {
                let sum = across[x].reduce(Float(0)) { $0 + row[$1.0 * 3 + channel] * $1.1 }
                pixels[(y * side + x) * 3 + channel] = UInt8(sum + 0.5)
            }
        }
    }
    return pixels
}

/// Which pixels of a side of the photograph make each pixel of the input, and by what part.
func sources(_ length: Int, _ side: Int, _ area: Bool) -> [[(Int, Float)]] {
    (0..<side).map { at in
        if area && length > side {
            let step = Double(length) / Double(side)
            let (start, end) = (Double(at) * step, min(Double(at + 1) * step, Double(length)))
            return (Int(start)..<Int(end.rounded(.up))).map { pixel in
                let covered = min(end, Double(pixel + 1)) - max(start, Double(pixel))
                return (pixel, Float(covered * (Double(side) / Double(length))))
            }
        }
        let place = (Float(at) + 0.5) * (Float(length) / Float(side))
        let low = (place - 0.5).rounded(.down)
        let upper = place - 0.5 - low
        let inside = { (pixel: Int) in min(max(pixel, 0), length - 1) }
        return [(inside(Int(low)), 1 - upper), (inside(Int(low) + 1), upper)]
    }
}
