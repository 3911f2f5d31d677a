#version 460
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_NV_cooperative_matrix2 : require
layout(local_size_x = 32) in;
layout(std430, binding = 0) buffer C { float c[]; };
float larger(const in float a, const in float b) { return max(a, b); }
void main() {
  coopmat<float, gl_ScopeSubgroup, 8, 8, gl_MatrixUseAccumulator> m =
      coopmat<float, gl_ScopeSubgroup, 8, 8, gl_MatrixUseAccumulator>(0.0);
  coopMatReduceNV(m, m, gl_CooperativeMatrixReduceRowNV, larger);
  coopMatStore(m, c, 0, 8, gl_CooperativeMatrixLayoutRowMajor);
}
