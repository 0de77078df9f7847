"""Names for what Keras and TensorFlow hand around: they ship no types, so each of these is Any."""

from typing import Any

Layer = Any  # keras.Layer
Model = Any  # keras.Model
Optimizer = Any  # keras.Optimizer
SymbolicTensor = Any  # keras.KerasTensor
Tensor = Any  # tf.Tensor
Variable = Any  # keras.Variable
