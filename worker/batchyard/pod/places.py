"""Where things lie in a pod, below one root, so that the same code runs in a folder of a test."""

from dataclasses import dataclass
from pathlib import Path

from batchyard.api import podfile


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of ``batchyard.api.podfile``, below ``root``."""

    root: Path = Path("/")

    def _below(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    @property
    def job_file(self) -> Path:
        """What the operator tells the pod."""
        return self._below(podfile.PODFILE)

    @property
    def project_source(self) -> Path:
        """The mounted ConfigMap of ``handler.project.configMap``."""
        return self._below(podfile.PROJECT_SOURCE)

    @property
    def mnt(self) -> Path:
        """The volume that the pod's containers share."""
        return self._below(podfile.MNT)

    @property
    def ours(self) -> Path:
        """The folder for what is nobody's but ours."""
        return self._below(podfile.OURS)

    @property
    def worker_settings(self) -> Path:
        """What the worker starts from."""
        return self._below(podfile.WORKER_SETTINGS)

    @property
    def models_config(self) -> Path:
        """What the model server starts from."""
        return self._below(podfile.MODELS_CONFIG)

    @property
    def serving_socket(self) -> Path:
        """Where the model server listens."""
        return self._below(podfile.SERVING_SOCKET)

    @property
    def models(self) -> Path:
        """The models that were brought here."""
        return self._below(podfile.MODELS)

    @property
    def project(self) -> Path:
        """The handler's files, unless they are used where the image has them."""
        return self._below(podfile.PROJECT)

    @property
    def dependencies(self) -> Path:
        """What ``handler.dependencies`` installed."""
        return self._below(podfile.DEPENDENCIES)
