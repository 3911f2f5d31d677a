#version 460
// One triangle over the whole picture.
void main() {
  gl_Position = vec4(vec2(gl_VertexIndex == 1 ? 3 : -1, gl_VertexIndex == 2 ? 3 : -1), 0, 1);
}
