"""The reference: coremltools' own palettize_weights and decompress_weights."""

import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Optional

import support  # before coremltools, which it quiets
import coremltools as ct
from coremltools.converters.mil.converter import mil_convert
from coremltools.converters.mil.mil.passes.graph_pass import PassOption
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from coremltools.models import utils
from coremltools.optimize import coreml as cto
from coremltools.optimize.coreml._quantization_passes import WeightDecompressor

_palettized = {}  # (package, settings, rewrite) -> path of the package that coremltools wrote


@dataclass(frozen=True)
class Settings:
    """One choice of options, for our command and for coremltools alike."""

    nbits: Optional[int] = None
    mode: str = "kmeans"
    granularity: str = "per_tensor"
    group_size: int = 32
    channel_axis: Optional[int] = None
    cluster_dim: int = 1
    enable_per_channel_scale: bool = False
    weight_threshold: int = 2048
    lut_dtype: Optional[str] = None  # of coremltools: a second step, which quantizes the tables
    joint: bool = False  # of coremltools: palettize what is pruned, as our command always does

    @classmethod
    def grouped(cls, nbits, group_size=16, **others):
        return cls(nbits, granularity="per_grouped_channel", group_size=group_size, **others)

    def arguments(self):
        """The command line; options that have their default value are left out."""
        words = []
        for name, value in vars(self).items():
            if value != getattr(Settings, name) and name != "joint":
                words += ["--" + name.replace("_", "-"), str(value)]
        return words

    def config(self):
        options = {name: value for name, value in vars(self).items()
                   if name not in ("lut_dtype", "joint")}
        return cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(**options))

    def __str__(self):
        return " ".join(self.arguments())


def open_model(package):
    return ct.models.MLModel(str(package), skip_model_load=True)


def save(mlmodel, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlmodel.save(str(path))
    return Path(path)


def palettize(package, settings, output, rewrite=True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about too few distinct values
        mlmodel = open_model(package)
        if rewrite:
            mlmodel = cto.palettize_weights(
                mlmodel, settings.config(), joint_compression=settings.joint)
            return save(_quantize_tables(mlmodel, settings.lut_dtype), output)
        palettizer = PASS_REGISTRY["compression::palettize_weights"]
        palettizer.set_options([PassOption("config", settings.config())])
        return save(_apply_alone(palettizer, mlmodel), output)


def _quantize_tables(mlmodel, dtype):
    """Joint compression: the only constants left to quantize are look-up tables."""
    if dtype is None:
        return mlmodel
    choice = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype=dtype, granularity="per_tensor", weight_threshold=0)
    config = cto.OptimizationConfig(global_config=choice)
    return cto.linear_quantize_weights(mlmodel, config, joint_compression=True)


def decompress(package, output, rewrite=True):
    mlmodel = open_model(package)
    if rewrite:
        return save(cto.decompress_weights(mlmodel), output)
    return save(_apply_alone(WeightDecompressor(op_selector=lambda op: True), mlmodel), output)


def _apply_alone(graph_pass, mlmodel):
    """What palettize_weights and decompress_weights do, less the passes that follow.

    These merge equal constants and fold batch normalisation into convolutions: the result
    is a different network, which cannot be compared operator by operator.
    """
    spec = mlmodel.get_spec()
    return mil_convert(
        utils._apply_graph_pass(mlmodel, graph_pass, return_pymil_prog=True),
        convert_from="milinternal", convert_to="mlprogram",
        specification_version=spec.specificationVersion, model_description=spec.description,
        pass_pipeline=ct.PassPipeline.EMPTY, compute_units=mlmodel.compute_unit,
        skip_model_load=True,
    )


def palettized(package, settings, rewrite=True):
    """coremltools' package for these settings; made once in each run of the tests."""
    key = (Path(package), settings, rewrite)
    if key not in _palettized:
        _palettized[key] = palettize(package, settings, _new_path(), rewrite)
    return _palettized[key]


def prepare(cases):
    """Makes the packages of many (package, settings) in JOBS processes, ahead of use."""
    missing = [(*case, True) for case in cases if (*case, True) not in _palettized]
    if support.JOBS < 2 or len(missing) < 2:
        return
    with ProcessPoolExecutor(support.JOBS, mp_context=get_context("spawn")) as pool:
        paths = [_new_path(number) for number in range(len(missing))]
        packages, settings, _ = zip(*missing)
        for key, path in zip(missing, pool.map(palettize, packages, settings, paths)):
            _palettized[key] = path


def _new_path(number=0):
    return support.scratch() / f"reference-{len(_palettized)}-{number}.mlpackage"
