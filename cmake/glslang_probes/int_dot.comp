#version 460
#extension GL_EXT_integer_dot_product : require
layout(local_size_x = 1) in;
layout(std430, binding = 0) buffer C { int c[]; };
void main() { c[0] = dotPacked4x8AccSatEXT(c[1], c[2], c[3]); }
