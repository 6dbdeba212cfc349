"""Datasets: samples as palettize reads them beside Pillow's and NumPy's, to the last bit."""

import gzip
import io
import subprocess
import tarfile
import unittest

import numpy as np
from PIL import Image

import support

DUMP = support.COMMAND.parent / "tests" / "dump_sample"
CIFAR = support.SHARED / "data" / "cifar10.tar"
PIXELS = ("--scale", "1")  # values as they are decoded


def dump(data, *options, first=0, count=1 << 40):
    """Samples as (label, arrays, name)."""
    if not DUMP.is_file():
        raise unittest.SkipTest(f"no {DUMP}: build the tests")
    values = support.scratch() / "values"
    done = subprocess.run(
        [str(DUMP), str(data), str(values), str(first), str(count), *map(str, options)],
        capture_output=True, text=True, timeout=support.TIMEOUT_SECONDS)
    if done.returncode:
        raise RuntimeError(done.stderr)
    types = [t.split(":")[1] for t in options if str(t).count(":") == 2] or ["f"]
    content, at, samples = values.read_bytes(), 0, []
    for line in done.stdout.splitlines():
        label, *shapes = line.split(" ", 1 + len(types))
        arrays = []
        for kind, shape in zip(types, shapes):
            dtype = np.dtype("<f4" if kind == "f" else "<i8")
            extents = [int(extent) for extent in shape.split("x")]
            count = int(np.prod(extents))
            arrays.append(np.frombuffer(content, dtype, count, at).reshape(extents))
            at += count * dtype.itemsize
        samples.append((int(label), arrays, shapes[-1]))
    assert at == len(content)
    return samples


def planes(image):
    """A Pillow image as the model takes it."""
    values = np.asarray(image, dtype=np.float32)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def photograph(width, height, seed=0):
    """Edges, gradients and noise in all channels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 100 * np.sin(x * a + seed) * np.cos(y * b) for a, b in
             ((0.11, 0.05), (0.31, 0.2), (0.02, 0.6))]
    pixels = np.stack(waves, -1) + random.normal(0, 12, (height, width, 3))
    pixels[height // 3:height // 2, width // 4:width // 2] = (250, 10, 120)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def shorter(width, height, length):
    """torchvision's Resize(length)."""
    if width <= height:
        return length, int(length * height / width)
    return int(length * width / height), length


def centre(image, width, height):
    """torchvision's CenterCrop."""
    top = int(round((image.height - height) / 2.0))
    left = int(round((image.width - width) / 2.0))
    return image.crop((left, top, left + width, top + height))


class DataTest(unittest.TestCase):
    def setUp(self):
        self.folder = support.scratch() / self.id()
        self.folder.mkdir()

    def assert_same(self, sample, image):
        np.testing.assert_array_equal(sample[1][0], planes(image), err_msg=sample[2])

    def save(self, name, image, **options):
        path = self.folder / name
        image.save(path, **options)
        return path

    def assert_decoded(self, expected=lambda image: image.convert("RGB")):
        paths = sorted(self.folder.iterdir())
        samples = dump(self.folder, *PIXELS)
        self.assertEqual([sample[2] for sample in samples], [str(path) for path in paths])
        for sample, path in zip(samples, paths):
            with self.subTest(name=path.name), Image.open(path) as image:
                self.assert_same(sample, expected(image))

    def test_jpeg(self):
        for width, height in ((64, 48), (37, 53), (1, 1), (8, 9), (17, 16)):
            image = photograph(width, height)
            size = f"{width}x{height}"
            for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
                for quality in (30, 90):
                    name = f"{size}-{subsampling.replace(':', '')}-{quality}"
                    options = {"subsampling": subsampling, "quality": quality}
                    self.save(f"{name}.jpg", image, **options)
                    self.save(f"{name}-progressive.jpg", image, progressive=True, **options)
            self.save(f"{size}-gray.jpeg", image.convert("L"))
            self.save(f"{size}-cmyk.jpg", image.convert("CMYK"))
        # The orientation is ignored, as torchvision's loader does.
        exif = Image.Exif()
        exif[0x0112] = 6
        self.save("turned.jpg", photograph(20, 30), exif=exif)
        self.assert_decoded()

    def test_png(self):
        image = photograph(33, 21)
        alpha = image.convert("L").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        with_alpha = image.copy()
        with_alpha.putalpha(alpha)
        few = image.quantize(13)
        for name, converted, options in (
            ("1", image.convert("1"), {}),
            ("l", image.convert("L"), {}),
            ("la", with_alpha.convert("LA"), {}),
            ("p", image.quantize(200), {}),
            ("p4", few, {"bits": 4}),
            ("p-transparent", few, {"transparency": 3}),
            ("p-alphas", few, {"transparency": bytes(range(0, 260, 20))}),
            ("rgb", image, {}),
            ("rgb-transparent", image, {"transparency": (250, 10, 120)}),
            ("rgba", with_alpha, {}),
        ):
            self.save(f"{name}.png", converted, **options)
        # What the name says is not believed.
        self.save("png.jpg", image, format="PNG")
        self.save("jpeg.png", image, format="JPEG")
        self.assert_decoded()

    def test_16_bits(self):
        """The high bytes; Pillow would cut gray ones off at 255."""
        values = np.random.default_rng(1).integers(0, 65536, (9, 14), dtype=np.uint16)
        self.save("a.png", Image.fromarray(values))
        (sample,) = dump(self.folder, *PIXELS, "--input", "image:f:1x0x0")
        np.testing.assert_array_equal(sample[1][0][0], values >> 8)

    def test_gray(self):
        self.save("a.png", photograph(40, 30))
        self.save("b.png", photograph(40, 30).convert("L"))
        for sample, path in zip(dump(self.folder, *PIXELS, "--input", "image:f:1x0x0"),
                                sorted(self.folder.iterdir())):
            with Image.open(path) as image:
                self.assert_same(sample, image.convert("L"))

    def test_resize_and_crop(self):
        sizes = ((200, 150), (97, 143), (33, 33), (300, 20))
        for i, (width, height) in enumerate(sizes):
            self.save(f"{i}.png", photograph(width, height, i))
        images = [Image.open(path) for path in sorted(self.folder.iterdir())]
        for length in (1, 7, 20, 33, 64, 97, 150, 224):
            for crop in (1, 7, 16, 20, 33, 61):
                if crop > length:
                    continue
                samples = dump(self.folder, *PIXELS, "--resize", length, "--crop", crop)
                for sample, image in zip(samples, images, strict=True):
                    size = shorter(*image.size, length)
                    with self.subTest(length=length, crop=crop, image=image.size):
                        self.assert_same(sample, centre(
                            image.resize(size, Image.Resampling.BILINEAR), crop, crop))
        for size in ((31, 77), (200, 150), (299, 299), (1, 400)):
            samples = dump(self.folder, *PIXELS, "--resize", f"{size[0]}x{size[1]}")
            for sample, image in zip(samples, images, strict=True):
                self.assert_same(sample, image.resize(size, Image.Resampling.BILINEAR))
            gray = dump(self.folder, *PIXELS, "--resize", f"{size[0]}x{size[1]}",
                        "--input", "image:f:1x0x0")
            for sample, image in zip(gray, images, strict=True):
                self.assert_same(sample,
                                 image.convert("L").resize(size, Image.Resampling.BILINEAR))

    def test_normalised(self):
        image = photograph(50, 40)
        self.save("a.png", image)
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        expected = (np.asarray(image) / 255.0 - mean) / std
        options = ("--mean", "0.485 0.456 0.406", "--std", "0.229,0.224,0.225")
        (sample,) = dump(self.folder, *options)
        np.testing.assert_allclose(sample[1][0], expected.transpose(2, 0, 1), rtol=2e-7, atol=1e-9)
        (sample,) = dump(self.folder, *options, "--layout", "nhwc", "--colour", "bgr")
        expected = (np.asarray(image)[:, :, ::-1] / 255.0 - mean) / std
        np.testing.assert_allclose(sample[1][0], expected, rtol=2e-7, atol=1e-9)

    def test_cifar(self):
        if not CIFAR.is_file():
            self.skipTest(f"no {CIFAR}: set PALETTIZE_SHARED")
        classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                   "truck"]
        samples = dump(CIFAR, *PIXELS, "--split", "test", "--limit", 200, "--shuffle-seed", 1)
        self.assertEqual(len(samples), 200)
        with tarfile.open(CIFAR) as archive:
            for label, (values,), name in samples:
                member = name.split(": ")[1]
                self.assertEqual(member.split("/")[:2], ["test", classes[label]])
                with Image.open(io.BytesIO(archive.extractfile(member).read())) as image:
                    np.testing.assert_array_equal(values, planes(image.convert("RGB")), name)

    def test_tar_made_by_python(self):
        """Long names make headers of their own, in either format of tar."""
        image = photograph(12, 10)
        path = self.save("a.png", image)
        for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            for mode in ("w", "w:gz"):
                name = self.folder / ("a.tar" if mode == "w" else "a.tar.gz")
                with tarfile.open(name, mode, format=format) as archive:
                    archive.add(path, "root/" + "long" * 50 + "/" + "name" * 40 + ".png")
                    archive.add(path, "root/b\u00e4r/a.png")
                samples = dump(name, *PIXELS)
                self.assertEqual([sample[0] for sample in samples], [0, 1])
                self.assertTrue(samples[1][2].endswith("long/" + "name" * 40 + ".png")
                                or samples[0][2].endswith("long/" + "name" * 40 + ".png"))
                for sample in samples:
                    self.assert_same(sample, image)

    def test_npz(self):
        random = np.random.default_rng(2)
        labels = random.integers(0, 10, 7)
        for dtype in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"):
            x = random.integers(0, 100, (7, 3, 2)).astype(dtype)
            ids = random.integers(0, 1 << 40, (7, 5))
            for save in (np.savez, np.savez_compressed):
                save(self.folder / "a.npz", x=x, ids=ids, labels=labels)
                samples = dump(self.folder / "a.npz", "--input", "x:f:3x2", "--input", "ids:i:0")
                for i, (label, arrays, _) in enumerate(samples):
                    self.assertEqual(label, labels[i])
                    np.testing.assert_array_equal(arrays[0], x[i].astype(np.float32))
                    np.testing.assert_array_equal(arrays[1], ids[i])
                self.assertEqual(len(samples), 7)

    def test_idx(self):
        random = np.random.default_rng(3)
        images = random.integers(0, 256, (6, 28, 28), dtype=np.uint8)
        labels = random.integers(0, 10, 6, dtype=np.uint8)
        for name, array in (("t10k-images-idx3-ubyte.gz", images),
                            ("t10k-labels-idx1-ubyte.gz", labels)):
            header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
            (self.folder / name).write_bytes(gzip.compress(header + array.tobytes()))
        samples = dump(self.folder, *PIXELS, "--split", "test", "--resize", "32x32")
        for i, (label, (values,), _) in enumerate(samples):
            self.assertEqual(label, labels[i])
            resized = Image.fromarray(images[i]).resize((32, 32), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(values, planes(resized))
        self.assertEqual(len(samples), 6)


if __name__ == "__main__":
    unittest.main()
