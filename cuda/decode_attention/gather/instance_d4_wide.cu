// Instances of the gather kernel: lines of rows.inc.
#include "cuda/decode_attention/gather/launch.cuh"

VI_GATHER_INSTANCE(128, 4, 12, 4, true, 4, 12, 2, true, 1)
VI_GATHER_INSTANCE(128, 4, 10, 16, true, 4, 10, 8, true, 1)
