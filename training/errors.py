"""What can go wrong in training, as one small tree; the command line prints the message alone.

TrainingError
├── ConfigError       a setting that cannot work: epochs, learning rate, device, recipe name
├── DataError         a data file that is missing, corrupt or out of reach
├── CheckpointError   a checkpoint that cannot be written, read or rebuilt
├── StateError        a state to go on from that cannot be written
│   └── UnfitStateError   one that is corrupt, or of another run
└── DivergenceError   the loss is no longer a number
"""


class TrainingError(Exception):
    """Base of all of them; its text is meant for the person at the terminal."""


class ConfigError(TrainingError):
    pass


class DataError(TrainingError):
    pass


class CheckpointError(TrainingError):
    pass


class StateError(TrainingError):
    pass


class UnfitStateError(StateError):
    pass


class DivergenceError(TrainingError):
    pass
