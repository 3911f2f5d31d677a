// Sums and maxima over the GROUP lanes of a workgroup; every lane gets the result. Call in uniform control
// flow, from all lanes. Through shared memory (GROUP a power of two), or subgroup operations with
// -DUSE_SUBGROUP, where one subgroup of GROUP lanes needs no barrier and any other size is right too.
// REDUCE_MANY: number of values that group_sums() sums at once.
#ifndef REDUCE_MANY
#define REDUCE_MANY 1
#endif
shared float reduce_cells[REDUCE_MANY * GROUP];

#ifdef USE_SUBGROUP
#define REDUCE_BODY(v, across, combine)                                                    \
  v = across(v);                                                                           \
  if (gl_NumSubgroups > 1) {                                                               \
    barrier();                                                                             \
    if (subgroupElect()) reduce_cells[gl_SubgroupID] = v;                                  \
    barrier();                                                                             \
    v = reduce_cells[0];                                                                   \
    for (uint i = 1; i < gl_NumSubgroups; ++i) v = combine(v, reduce_cells[i]);            \
  }                                                                                        \
  return v;
#else
#define REDUCE_BODY(v, across, combine)                                                    \
  uint lane = gl_LocalInvocationID.x;                                                      \
  barrier();                                                                               \
  reduce_cells[lane] = v;                                                                  \
  barrier();                                                                               \
  for (uint half_size = GROUP / 2; half_size > 0; half_size >>= 1) {                       \
    if (lane < half_size)                                                                  \
      reduce_cells[lane] = combine(reduce_cells[lane], reduce_cells[lane + half_size]);    \
    barrier();                                                                             \
  }                                                                                        \
  return reduce_cells[0];
#endif

float plus(float a, float b) { return a + b; }
float group_sum(float v) { REDUCE_BODY(v, subgroupAdd, plus) }
float group_max(float v) { REDUCE_BODY(v, subgroupMax, max) }

// values[i] becomes its sum over all lanes.
void group_sums(inout float values[REDUCE_MANY]) {
#ifdef USE_SUBGROUP
  for (uint i = 0; i < REDUCE_MANY; ++i) values[i] = subgroupAdd(values[i]);
  if (gl_NumSubgroups == 1) return;
  barrier();
  if (subgroupElect())
    for (uint i = 0; i < REDUCE_MANY; ++i) reduce_cells[i * GROUP + gl_SubgroupID] = values[i];
  barrier();
  for (uint i = 0; i < REDUCE_MANY; ++i) {
    values[i] = reduce_cells[i * GROUP];
    for (uint j = 1; j < gl_NumSubgroups; ++j) values[i] += reduce_cells[i * GROUP + j];
  }
#else
  uint lane = gl_LocalInvocationID.x;
  barrier();
  for (uint i = 0; i < REDUCE_MANY; ++i) reduce_cells[i * GROUP + lane] = values[i];
  barrier();
  for (uint half_size = GROUP / 2; half_size > 0; half_size >>= 1) {
    if (lane < half_size)
      for (uint i = 0; i < REDUCE_MANY; ++i)
        reduce_cells[i * GROUP + lane] += reduce_cells[i * GROUP + lane + half_size];
    barrier();
  }
  for (uint i = 0; i < REDUCE_MANY; ++i) values[i] = reduce_cells[i * GROUP];
#endif
}
