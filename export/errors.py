"""What can go wrong in an export, as one small tree; the command line prints the message alone.

ExportError
├── ConversionFailed      the checkpoint cannot be written as ONNX
├── ModuleRefused         a torch module that cannot be built, or its weights not loaded
├── RunTooLong            a model that may never come to an end
├── GateRefused           the model is not what it should be; nothing was published
│   ├── FileRefused       an ONNX file that is not whole, not valid or not for ONNX Runtime
│   ├── DataRefused       the data set is not the one that the checkpoint was measured on
│   ├── ParityRefused     torch and ONNX Runtime differ by more than the tolerance
│   ├── RowsRefused       rows depend on their neighbours where batches were asked for
│   ├── AccuracyRefused   fewer right answers than the checkpoint states
│   ├── VariantRefused    a precision that was asked for cannot be had
│   └── EngineRefused     a TensorRT engine that was asked for cannot be had
└── PublishFailed         the repository cannot take the version; it is as it was before
    ├── InvalidName       a name that cannot be a model's
    ├── VersionExists     published versions are never overwritten
    └── Incompatible      the model folder describes another model
"""


class ExportError(Exception):
    """Base of all of them; its text is meant for the person at the terminal."""


class ConversionFailed(ExportError):
    pass


class ModuleRefused(ExportError):
    pass


class RunTooLong(ExportError):
    pass


class GateRefused(ExportError):
    pass


class FileRefused(GateRefused):
    pass


class DataRefused(GateRefused):
    pass


class ParityRefused(GateRefused):
    pass


class RowsRefused(GateRefused):
    pass


class AccuracyRefused(GateRefused):
    pass


class VariantRefused(GateRefused):
    pass


class EngineRefused(GateRefused):
    pass


class PublishFailed(ExportError):
    pass


class InvalidName(PublishFailed):
    pass


class VersionExists(PublishFailed):
    pass


class Incompatible(PublishFailed):
    pass
