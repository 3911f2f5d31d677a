// What every pipeline is told of the picture.
layout(push_constant) uniform View {
  vec2 size;     // pixels
  float scale;   // pixels of one unit
  float time;    // seconds
  float camera;  // units
  float fire;    // brightness of the fire, about 1
  float forest;  // 0: a plain backdrop
} view;
