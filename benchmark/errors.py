"""Every error that a user can meet.

::

    BenchmarkError
    ├── InputError                bad arguments or bad input, exit status 2
    │   ├── ArgumentError         a command-line or API argument
    │   ├── DataError             the folder or CSV of images
    │   ├── RecipeError           a fine-tuning recipe
    │   └── ManifestError         a model directory or its manifest
    └── JobError                  the job itself failed, exit status 1
        ├── CacheError            the embedding cache
        │   ├── CacheDamaged      a file is not what its name says
        │   └── StorageError       no room left, or a read-only folder
        ├── WeightsError          weights that cannot be had or do not fit
        ├── EmbeddingError        vectors that cannot be right (NaN, wrong dim, another backbone's)
        ├── TrainingError         a head or a fine-tuning run that cannot continue
        ├── ExportError           a conversion, or its comparison with the original
        └── NothingScored         a run without a single scored backbone
"""

from typing import Self


class BenchmarkError(Exception):
    """An error with everything that its reader needs to go on.

    Args:
        what: what is wrong, one clause without a full stop.
        where: the file, backbone, argument or row concerned.
        expected: what would have been right.
        got: what was found instead.
        next_step: what to do now.

    ``str(error)`` is one message with the parts that were given.
    """

    exit_status = 1

    def __init__(
        self, what: str, *, where: object = "", expected: object = "", got: object = "", next_step: str = ""
    ) -> None:
        self.what = what
        self.where = str(where)
        self.expected = str(expected)
        self.got = str(got)
        self.next_step = next_step
        super().__init__(self._message())

    @classmethod
    def not_installed(cls, what: str, extra: str, *, where: object = "", got: object = "") -> Self:
        """The error of a missing package, with the extra of this one that brings it."""
        install = f"Install it: pip install 'backbone-benchmark[{extra}]'."
        return cls(f"{what} is not installed", where=where, got=got, next_step=install)

    def _message(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        facts = [f"expected {self.expected}" if self.expected else "", f"got {self.got}" if self.got else ""]
        message = "; ".join([head, *filter(None, facts)])
        return f"{message}. {self.next_step}" if self.next_step else message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by field, so that errors cross process boundaries whole."""
        fields = (type(self), self.what, self.where, self.expected, self.got, self.next_step)
        return _rebuild, fields, self.__dict__  # with its notes


def _rebuild(
    kind: type[BenchmarkError], what: str, where: str, expected: str, got: str, next_step: str
) -> BenchmarkError:
    return kind(what, where=where, expected=expected, got=got, next_step=next_step)


class InputError(BenchmarkError):
    """Bad arguments or bad input."""

    exit_status = 2


class ArgumentError(InputError):
    """An argument that cannot be used."""


class DataError(InputError):
    """A folder or CSV of images that cannot be used."""


class RecipeError(InputError):
    """A fine-tuning recipe that cannot be used."""


class ManifestError(InputError):
    """A model directory or manifest that cannot be used."""


class JobError(BenchmarkError):
    """The job failed."""


class CacheError(JobError):
    """The embedding cache cannot be used."""


class CacheDamaged(CacheError):
    """A cache file is not what its name says."""


class StorageError(CacheError):
    """No room left, or no permission to write."""


class WeightsError(JobError):
    """Weights that cannot be had or do not fit."""


class EmbeddingError(JobError):
    """Embeddings that cannot be right."""


class TrainingError(JobError):
    """A training run that cannot continue."""


class ExportError(JobError):
    """A conversion that failed or does not agree with the original."""


class NothingScored(JobError):
    """A run without a single scored backbone."""
