#include "cast.h"

#include <algorithm>
#include <cmath>

namespace demo {
namespace {

constexpr Color kInk = 0x1d1420ff, kShine = 0xffffffe0, kMouth = 0x6d1f2aff;

// How far eyes are open: shut for a moment every few seconds.
float open_eyes(float time) {
  const float phase = std::fmod(time, 3.7f);
  return phase < 0.16f ? std::abs(phase - 0.08f) / 0.08f : 1;
}

float sway(float time, float speed, float size) { return size * std::sin(time * speed); }

void eye(const Brush& brush, Vec2 at, float size, float open, float look) {
  if (open < 0.25f) {
    brush.arc(at, {size, size * 0.5f}, 1.2f, kInk);
    return;
  }
  brush.ellipse(at, {size * 0.86f, size * 1.1f * open}, kInk);
  brush.ellipse(at + Vec2{0.3f * size + look, -0.4f * size * open}, {size * 0.32f, size * 0.36f * open},
                kShine);
}

// A closed mouth smiles; an open one is an ellipse with a tongue.
void mouth(const Brush& brush, Vec2 at, float wide, float open) {
  if (open < 0.12f) {
    brush.arc(at + Vec2{-wide * 0.5f, -1}, {wide * 0.5f, 2.2f}, 1.2f, kInk);
    brush.arc(at + Vec2{wide * 0.5f, -1}, {wide * 0.5f, 2.2f}, 1.2f, kInk);
    return;
  }
  brush.ellipse(at + Vec2{0, open * 2.6f}, {wide * 0.72f, 1.4f + open * 4.4f}, kMouth);
  brush.ellipse(at + Vec2{0, open * 5}, {wide * 0.42f, 0.4f + open * 1.7f}, 0xd9737cff);
}

}  // namespace

void draw_fox(const Brush& brush, const Pose& pose) {
  constexpr Color kFur = 0xe9853fff, kDark = 0xb4502bff, kCream = 0xfbe9d2ff, kSock = 0x4a2530ff;
  const float wag = sway(pose.time, 1.6f, 0.14f), breath = sway(pose.time, 2.1f, 0.7f);
  brush.shadow({-4, 0}, {44, 7});
  brush.leaf({-33 - 10 * wag, -25}, {13, 31}, kFur, kDark, -0.75f + wag);
  brush.leaf({-50 - 18 * wag, -40}, {7, 13}, kCream, 0xe8c9abff, -0.85f + wag);
  brush.ellipse({0, -30 - breath}, {25, 32}, kFur, kDark);
  brush.ellipse({-15, -14}, {14, 15}, kFur, kDark);
  brush.ellipse({3, -30 - breath}, {14, 23}, kCream, 0xe2b994ff);
  for (const float x : {-5.0f, 12.0f}) {
    brush.box({x, -13}, {5.5f, 14}, 5, kFur, kDark);
    brush.ellipse({x + 1, -2}, {7, 4}, kSock);
  }
  const Brush head = brush.moved({2 + sway(pose.time, 0.9f, 1.2f), -breath - pose.mouth * 1.2f});
  for (const float side : {-1.0f, 1.0f}) {
    head.triangle({side * 17, -98}, {10, 15}, 3, kFur, kDark, side * 0.32f);
    head.triangle({side * 16.5f, -95}, {5, 9}, 2, kSock, 0, side * 0.32f);
  }
  for (const float side : {-1.0f, 1.0f})
    head.triangle({side * 22, -70}, {9, 12}, 3, kCream, 0xeccfb2ff, side * 2.0f);
  head.ellipse({0, -77}, {26, 21}, 0xf0914aff, 0xd06f36ff);
  head.ellipse({-11, -68}, {13, 10}, kCream);
  head.ellipse({11, -68}, {13, 10}, kCream);
  const float open = open_eyes(pose.time);
  eye(head, {-10, -79}, 3.6f, open, 0.4f);
  eye(head, {10, -79}, 3.6f, open, 0.4f);
  mouth(head, {0, -62.5f}, 7, pose.mouth);
  head.ellipse({0, -69.5f}, {4.6f, 3.4f}, kInk);
  head.ellipse({1.2f, -70.6f}, {1.4f, 0.9f}, 0xffffff90);
  brush.box({3, -51 - breath}, {22, 6}, 6, 0x2f9c95ff, 0x1c6b70ff);  // a scarf
  brush.box({17, -40 - breath}, {6, 13}, 3, 0x2f9c95ff, 0x1c6b70ff, -0.12f + wag * 0.4f);
}

void draw_owl(const Brush& brush, const Pose& pose) {
  constexpr Color kWood = 0x6b4a3aff, kBark = 0x3a2732ff, kFeather = 0x8d6b52ff, kDeep = 0x533a41ff,
                  kPale = 0xecdcc3ff;
  const float breath = sway(pose.time, 1.8f, 0.6f), turn = sway(pose.time, 0.7f, 1.6f);
  brush.shadow({0, 30}, {38, 7});
  brush.box({0, 13}, {25, 19}, 4, kWood, kBark);
  brush.ellipse({0, -4}, {25, 6}, 0xb98a62ff);
  brush.ring({0, -4}, {17, 4}, 1, 0x8f6548ff);
  brush.ring({0, -4}, {9, 2.2f}, 1, 0x8f6548ff);
  for (const float x : {-8.0f, 8.0f}) brush.ellipse({x, -4}, {6, 3}, 0xe2a13cff);
  brush.ellipse({0, -34 - breath}, {26, 32}, kFeather, kDeep);
  brush.ellipse({0, -29 - breath}, {17, 25}, kPale, 0xc9ac8dff);
  for (int row = 0; row < 4; ++row)
    for (int i = 0; i <= 1 + (row + 1) % 2; ++i)
      brush.arc({(static_cast<float>(i) - 0.5f * static_cast<float>(1 + (row + 1) % 2)) * 10,
                 -42 + static_cast<float>(row) * 8 - breath},
                {4, 3.2f}, 1.3f, 0xa07d5fff);
  for (const float side : {-1.0f, 1.0f})
    brush.leaf({side * 24, -34 - breath}, {10, 27}, kFeather, kDeep, side * (0.16f + 0.12f * pose.mouth));
  const Brush head = brush.moved({turn, -breath});
  for (const float side : {-1.0f, 1.0f})
    head.triangle({side * 19, -87}, {7, 12}, 2, kFeather, 0, side * 0.5f);
  head.ellipse({0, -71}, {27, 20}, 0x9c785cff, kFeather);
  for (const float side : {-1.0f, 1.0f}) head.ellipse({side * 11, -70}, {13, 13}, kPale);
  const float open = open_eyes(pose.time);
  for (const float side : {-1.0f, 1.0f}) {
    const Vec2 at{side * 11, -71};
    head.ellipse(at, {7.6f, 7.6f * std::max(open, 0.15f)}, 0xf2b53aff, 0xd98a22ff);
    eye(head, at + Vec2{turn * 0.6f, 0}, 4.2f, open, 0.5f);
    head.ring(at, {11.5f, 11.5f}, 1.6f, 0xd8b25cff);  // spectacles
  }
  head.box({0, -73}, {2.5f, 0.8f}, 0.8f, 0xd8b25cff);
  head.triangle({0, -59.5f + pose.mouth * 2.5f}, {3, 3.5f}, 1, 0xb87718ff, 0, 3.14159f);
  head.triangle({0, -62.5f}, {4.2f, 5.5f}, 1, 0xe9a331ff, 0, 3.14159f);
}

void draw_bear(const Brush& brush, const Pose& pose) {
  constexpr Color kFur = 0x8a5a44ff, kDark = 0x523343ff, kTan = 0xd9ab83ff, kVelvet = 0xa83250ff;
  const float breath = sway(pose.time, 1.5f, 0.8f), wave = pose.mouth * 0.25f + sway(pose.time, 1.1f, 0.04f);
  brush.shadow({0, 1}, {50, 8});
  brush.ellipse({0, -36 - breath}, {36, 38}, kFur, kDark);
  brush.ellipse({-2, -32 - breath}, {23, 27}, 0xb98465ff, 0x8d5f52ff);
  brush.ellipse({31, -38 - breath}, {10, 23}, kFur, kDark, -0.28f);
  brush.ellipse({-33, -42 - breath - 14 * wave}, {10, 23}, kFur, kDark, 0.35f + 2.2f * wave);
  for (const float side : {-1.0f, 1.0f}) {
    brush.ellipse({side * 21, -7}, {15, 10}, kFur, kDark);
    brush.ellipse({side * 23, -6}, {8, 6}, kTan);
  }
  const Brush head = brush.moved({sway(pose.time, 0.8f, 1.3f), -breath - pose.mouth * 1.4f});
  for (int i = -4; i <= 4; ++i) {  // a ruff
    const auto x = static_cast<float>(i);
    head.ellipse({x * 6.4f, -66 - 0.16f * x * x}, {6.2f, 7.4f}, 0xf4efe6ff, 0xc3bccbff, 0.16f * x);
  }
  for (const float side : {-1.0f, 1.0f}) {
    head.ellipse({side * 22, -107}, {9.5f, 9.5f}, kFur);
    head.ellipse({side * 22, -106}, {5.2f, 5.2f}, kTan);
  }
  head.ellipse({0, -90}, {29, 24}, 0x99664dff, 0x7a4c3fff);
  head.ellipse({0, -80}, {14, 11}, kTan, 0xc08f6cff);
  const float open = open_eyes(pose.time);
  eye(head, {-11, -92}, 3.4f, open, -0.4f);
  eye(head, {11, -92}, 3.4f, open, -0.4f);
  mouth(head, {0, -77}, 7, pose.mouth);
  head.ellipse({0, -85}, {5.6f, 4}, kInk);
  head.ellipse({-1.2f, -86.2f}, {1.7f, 1}, 0xffffff90);
  head.ellipse({2, -113}, {25, 9.5f}, kVelvet, 0x6f1f42ff, -0.1f);  // a player's cap
  head.box({1, -107}, {21, 2.4f}, 2.4f, 0x551a37ff, 0, -0.08f);
  head.leaf({25, -127}, {5, 19}, 0xf2e7c8ff, 0xd0a94eff, 0.62f + 0.1f * wave);
}

}  // namespace demo
