// Instances of the gather kernel: lines of rows.inc.
#include "cuda/decode_attention/gather/launch.cuh"

VI_GATHER_INSTANCE(128, 8, 12, 2, true, 8, 12, 1, true, 1)
VI_GATHER_INSTANCE(128, 4, 10, 16, true, 8, 12, 1, true, 1)
