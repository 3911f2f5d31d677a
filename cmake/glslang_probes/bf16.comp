#version 460
#extension GL_EXT_bfloat16 : require
layout(local_size_x = 1) in;
layout(std430, binding = 0) buffer C { float c[]; };
void main() { c[0] = float(bfloat16_t(c[1])); }
