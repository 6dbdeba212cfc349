"""A sharded checkpoint of the size of Llama 3.2 1B, palettized: time, memory, ratio.

The checkpoint is made once, of normally distributed bfloat16 values (2.5 GB), in a cache folder. The
command then runs on it; while it runs its memory is read from /proc (Linux). Three peaks are told:
of everything resident, of that what is backed by no file, and of that what is backed by files: the
checkpoint and the temporary files for palettes, which the system takes back when it needs memory.

Processor seconds, of both cores together, tell on a busy machine how long an idle one would take.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LAYERS, HIDDEN, MLP, KV, VOCABULARY = 16, 2048, 8192, 512, 128256
LAYERS_IN_SHARD = 4
MIB = 1 << 20
SECONDS_ALLOWED, MEMORY_ALLOWED = 60, 1024 * MIB
SAMPLING_SECONDS = 0.01


def main():
    options = parse_arguments()
    checkpoint = options.cache / f"llama-1b-{options.layers}-layers"
    if not (checkpoint / "model.safetensors.index.json").is_file():
        make_checkpoint(checkpoint, options.layers)
    small, plain = options.cache / "palettized", options.cache / "decompressed"
    jobs = {
        "compress": ["compress", checkpoint, "-o", small, "--nbits", options.nbits,
                     "--granularity", "per_grouped_channel", "--group-size", options.group_size,
                     "--embeddings", options.embeddings, "--threads", options.threads],
    }
    if options.decompress:
        jobs["decompress"] = ["decompress", small, "-o", plain]
    os.sync()  # what others have written, the checkpoint above all, is not to be waited for
    print("| job | seconds | processor seconds | peak resident MiB | without a file | with a file "
          "| GB in | GB out | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    kept = True
    for name, arguments in jobs.items():
        seconds, busy, peaks = measure([options.command, *arguments, "--quiet"])
        before, after = size_of(arguments[1]), size_of(arguments[3])
        total, anonymous, backed = (peak / MIB for peak in peaks)
        print(f"| {name} | {seconds:.1f} | {busy:.1f} | {total:.0f} | {anonymous:.0f} | {backed:.0f} | "
              f"{before / 1e9:.2f} | {after / 1e9:.2f} | {before / after:.2f} |", flush=True)
        if name == "compress":
            kept = seconds <= SECONDS_ALLOWED and peaks[0] <= MEMORY_ALLOWED
    if not options.keep:
        shutil.rmtree(small, ignore_errors=True)
        shutil.rmtree(plain, ignore_errors=True)
    if not kept:
        raise SystemExit(f"not within {SECONDS_ALLOWED} s and {MEMORY_ALLOWED // MIB} MiB")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", type=Path,
                        default=os.environ.get("PALETTIZE", ROOT / "build" / "palettize"))
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--nbits", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--embeddings", choices=("skip", "palettize"), default="skip")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--decompress", action="store_true", help="decompress the result as well")
    parser.add_argument("--keep", action="store_true", help="keep the outputs")
    return parser.parse_args()


# ---------------------------------------------------------------- the checkpoint


def tensors_of_layer(layer):
    prefix = f"model.layers.{layer}"
    return {
        f"{prefix}.input_layernorm.weight": (HIDDEN,),
        f"{prefix}.mlp.down_proj.weight": (HIDDEN, MLP),
        f"{prefix}.mlp.gate_proj.weight": (MLP, HIDDEN),
        f"{prefix}.mlp.up_proj.weight": (MLP, HIDDEN),
        f"{prefix}.post_attention_layernorm.weight": (HIDDEN,),
        f"{prefix}.self_attn.k_proj.weight": (KV, HIDDEN),
        f"{prefix}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        f"{prefix}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        f"{prefix}.self_attn.v_proj.weight": (KV, HIDDEN),
    }


def make_checkpoint(folder, layers):
    """The output matrix is tied to the embedding, so there is no lm_head."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shards = [{"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}]
    for first in range(0, layers, LAYERS_IN_SHARD):
        shards.append({})
        for layer in range(first, min(first + LAYERS_IN_SHARD, layers)):
            shards[-1] |= tensors_of_layer(layer)
    shards[-1]["model.norm.weight"] = (HIDDEN,)
    weight_map, total = {}, 0
    random = np.random.default_rng(0)
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        total += write_shard(partial / name, tensors, random)
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (partial / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (partial / "config.json").write_text(json.dumps({"model_type": "llama"}) + "\n")
    partial.rename(folder)


def write_shard(path, tensors, random):
    """Returns the bytes of the tensors."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in tensors.values():
            rows = int(np.prod(shape[:-1]))
            for first in range(0, rows, 4096):
                file.write(normal_bfloat16(random, (min(4096, rows - first), shape[-1])))
    return offset


def normal_bfloat16(random, shape):
    bits = (random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()


# ---------------------------------------------------------------- measuring


def measure(command):
    """Seconds, processor seconds, and the peaks of all, of anonymous and of file-backed resident
    memory in bytes.

    The first peak is the kernel's own high-water mark; it begins anew when the command does, unlike the
    ru_maxrss of a child, which counts the memory of the parent that it was forked from.
    """
    start, before = time.perf_counter(), os.times()
    process = subprocess.Popen([str(argument) for argument in command])
    peaks = [0, 0, 0]
    while process.poll() is None:
        sample = read_memory(process.pid)
        peaks = [max(pair) for pair in zip(peaks, sample)]
        time.sleep(SAMPLING_SECONDS)
    if process.returncode != 0:
        raise SystemExit(f"{command[1]}: exit status {process.returncode}")
    seconds, after = time.perf_counter() - start, os.times()
    busy = sum(after[2:4]) - sum(before[2:4])
    return seconds, busy, peaks


def read_memory(pid):
    fields = {}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            fields[key] = value
    except OSError:
        pass  # it has just ended
    return [1024 * sum(int(fields.get(key, "0").split()[0]) for key in keys)
            for keys in (("VmHWM",), ("RssAnon",), ("RssFile", "RssShmem"))]


def size_of(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
