"""Arrays as ``*_val`` lists, the only form in which TF Serving answered before 2.19.

Apart from ``tensors`` because only the server writes them, so that a client can be tried against old answers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchyard.serving import tensors
from batchyard.serving.protos import tensor_pb2
from batchyard.serving.wire import Parts, header

# fields of TensorProto; a packed list of fixed-width values is the array's own bytes
_FIXED_WIDTH: dict[int, int] = {
    tensor_pb2.DT_FLOAT: 5,
    tensor_pb2.DT_DOUBLE: 6,
    tensor_pb2.DT_COMPLEX64: 9,
    tensor_pb2.DT_COMPLEX128: 12,
    tensor_pb2.DT_BOOL: 11,  # varints, but 0 and 1 are one byte each
}
_VARINTS: dict[int, str] = {
    tensor_pb2.DT_INT64: "int64_val",
    tensor_pb2.DT_UINT32: "uint32_val",
    tensor_pb2.DT_UINT64: "uint64_val",
}
_BITS = (tensor_pb2.DT_HALF, tensor_pb2.DT_BFLOAT16)


def encode_lists(array: NDArray[Any]) -> Parts:
    """Return a serialized TensorProto with every value in its dtype's list. Raises ValueError as ``encode`` does."""
    dtype = tensors.data_type(array)
    if dtype == tensor_pb2.DT_STRING or array.size == 0:
        return tensors.encode(array)
    message = tensor_pb2.TensorProto(dtype=dtype)  # type: ignore[arg-type]  # the stub's int subclass
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    flat = np.ascontiguousarray(array, tensors.numpy_dtype(dtype)).reshape(-1)
    if dtype in _FIXED_WIDTH:
        data = flat.view(np.uint8).data
        return [message.SerializeToString() + header(_FIXED_WIDTH[dtype], len(data)), data]
    if dtype in _BITS:
        message.half_val.extend(flat.view(np.uint16).tolist())
    else:
        getattr(message, _VARINTS.get(dtype, "int_val")).extend(flat.tolist())
    return [message.SerializeToString()]
