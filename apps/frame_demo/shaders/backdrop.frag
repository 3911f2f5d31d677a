#version 460
#extension GL_GOOGLE_include_directive : require
// A clearing at dusk: sky, stars, moon, two ridges, two rows of firs, ground in the light of the fire. Every layer is a
// height over x; those near move more with the camera.
#include "view.glsl"
layout(location = 0) out vec4 color;

float hash(float n) { return fract(sin(n * 127.1) * 43758.5453); }

float wave(float x, float seed) {
  return sin(x * 0.011 + seed) + 0.5 * sin(x * 0.027 + seed * 2.3) + 0.22 * sin(x * 0.071 + seed * 4.1);
}

// How far firs of `tall` units, one every `pitch`, reach above their ground at x.
float firs(float x, float pitch, float tall, float seed) {
  float top = 0;
  float cell = floor(x / pitch);
  for (int i = -1; i <= 1; ++i) {
    float id = cell + i;
    float trunk = (id + 0.25 + 0.5 * hash(id + seed)) * pitch;
    float height = tall * (0.55 + 0.45 * hash(id * 3.7 + seed));
    float side = abs(x - trunk) / (height * 0.24);  // 1: the lowest branch's end
    float steps = fract(side * 4.0);
    top = max(top, height * (1 - side - 0.05 * steps + 0.02));
  }
  return top;
}

vec3 sky(vec2 p) {
  float down = clamp(p.y / 250, 0, 1);
  vec3 c = mix(vec3(0.043, 0.055, 0.137), vec3(0.173, 0.133, 0.310), smoothstep(0.0, 0.55, down));
  c = mix(c, vec3(0.560, 0.290, 0.380), smoothstep(0.45, 0.85, down));
  c = mix(c, vec3(0.960, 0.570, 0.360), smoothstep(0.78, 1.0, down));
  if (p.y < 170) {
    vec2 cell = floor(p / 13);
    float id = cell.x + cell.y * 57;
    vec2 star = (cell + 0.2 + 0.6 * vec2(hash(id), hash(id + 0.5))) * 13;
    float bright = hash(id + 0.25);
    float twinkle = 0.7 + 0.3 * sin(view.time * (1.0 + 2.0 * bright) + id);
    float spot = max(0, 1 - length(p - star) / (0.6 + 0.7 * bright));
    c += vec3(1.0, 0.95, 0.85) * spot * twinkle * step(0.45, bright) * (1 - p.y / 170);
  }
  return c;
}

vec3 moon(vec3 c, vec2 p) {
  vec2 d = p - vec2(222, 172);
  float r = length(d);
  c += vec3(0.50, 0.34, 0.22) * exp(-max(0, r - 30) / 26) * 0.55;
  vec3 face = vec3(1.0, 0.90, 0.70) - 0.09 * smoothstep(9, 6, length(d - vec2(-9, -6))) -
              0.07 * smoothstep(7, 4, length(d - vec2(8, 3))) - 0.06 * smoothstep(5, 3, length(d - vec2(-2, 11)));
  return mix(c, face, smoothstep(30.6, 29.6, r));
}

void main() {
  vec2 p = gl_FragCoord.xy / view.scale;
  if (view.forest == 0) {
    color = vec4(1.0, 0.996, 0.984, 1);
    return;
  }
  float middle = 0.5 * view.size.x / view.scale;
  float edge = 1 / view.scale;  // one pixel
  vec3 c = vec3(0);
  if (p.y < 262) {
    float far = 205 - 13 * wave(p.x + 0.10 * view.camera, 1.7);
    float near = 226 - 9 * wave(p.x * 1.4 + 0.22 * view.camera, 4.2);
    c = p.y < far + 1 ? moon(sky(p), p - vec2(-0.04 * view.camera, 0)) : vec3(0);
    vec3 ridge = mix(vec3(0.345, 0.235, 0.400), vec3(0.620, 0.360, 0.420), clamp((p.y - far) / 60, 0, 1));
    c = mix(c, ridge, smoothstep(-edge, edge, p.y - far));
    ridge = mix(vec3(0.220, 0.165, 0.320), vec3(0.390, 0.245, 0.370), clamp((p.y - near) / 45, 0, 1));
    c = mix(c, ridge, smoothstep(-edge, edge, p.y - near));
    float x = p.x + 0.45 * view.camera;
    float row = 246 - 3 * wave(x, 0.4) - firs(x, 17, 46, 3);
    vec3 wood = mix(vec3(0.115, 0.110, 0.220), vec3(0.235, 0.170, 0.285), clamp((p.y - row) / 60, 0, 1));
    c = mix(c, wood, smoothstep(-edge, edge, p.y - row));
    float x2 = p.x - middle + 0.8 * view.camera;
    float tall = 34 + 150 * smoothstep(150, 330, abs(x2));  // the clearing is open in the middle
    row = 262 - firs(x2 + 400, 31, tall, 11);
    wood = mix(vec3(0.055, 0.065, 0.130), vec3(0.105, 0.095, 0.165), clamp((p.y - row) / 90, 0, 1));
    c = mix(c, wood, smoothstep(-edge, edge, p.y - row));
  }
  float rim = 256 + 2.5 * sin(p.x * 0.05 + view.camera * 0.05) + 1.2 * sin(p.x * 0.9) * sin(p.x * 0.37);
  float lit = length((p - vec2(middle - view.camera, 306)) / vec2(1.0, 0.42));
  vec3 ground = mix(vec3(0.105, 0.125, 0.150), vec3(0.045, 0.055, 0.085), clamp((p.y - 256) / 104, 0, 1));
  ground += 0.012 * sin(p.x * 0.8 + 3 * sin(p.y * 0.5)) * sin(p.y * 1.1);
  ground += vec3(0.62, 0.30, 0.09) * view.fire * exp(-lit / 85);
  c = mix(c, ground, smoothstep(-edge, edge, p.y - rim));
  vec2 away = (p - 0.5 * view.size / view.scale) / vec2(middle, 180);
  color = vec4(c * (1 - 0.16 * dot(away, away)), 1);
}
