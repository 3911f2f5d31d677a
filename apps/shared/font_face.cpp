#include "font_face.h"

#include <ft2build.h>
#include FT_FREETYPE_H

#include <algorithm>

namespace tool {

struct FontFace::Handles {
  FT_Library library = nullptr;
  FT_Face face = nullptr;
};

void FontFace::Close::operator()(Handles* handles) const {
  if (handles->face != nullptr) FT_Done_Face(handles->face);
  if (handles->library != nullptr) FT_Done_FreeType(handles->library);
  delete handles;
}

tessera::Expected<FontFace> FontFace::open(const std::string& path) {
  FontFace out;
  out.handles_.reset(new Handles);
  Handles& h = *out.handles_;
  if (FT_Init_FreeType(&h.library) != 0 || FT_New_Face(h.library, path.c_str(), 0, &h.face) != 0)
    return tessera::Failure{TESSERA_IO, "'" + path + "' is no font that can be read"};
  return out;
}

bool FontFace::resize(unsigned pixels) {
  return FT_Set_Pixel_Sizes(handles_->face, 0, std::max(pixels, 1u)) == 0;
}

int FontFace::line_height() const { return static_cast<int>(handles_->face->size->metrics.height >> 6); }

bool FontFace::has(char32_t character) const { return FT_Get_Char_Index(handles_->face, character) != 0; }

bool FontFace::load(char32_t character, Letter& letter) {
  if (FT_Load_Char(handles_->face, character, FT_LOAD_RENDER | FT_LOAD_TARGET_LIGHT) != 0) return false;
  const FT_GlyphSlotRec_& slot = *handles_->face->glyph;
  if (slot.bitmap.pixel_mode != FT_PIXEL_MODE_GRAY) return false;
  letter = {static_cast<int>(slot.bitmap.width),
            static_cast<int>(slot.bitmap.rows),
            slot.bitmap.pitch,
            slot.bitmap_left,
            slot.bitmap_top,
            static_cast<int>(slot.advance.x >> 6),
            slot.bitmap.buffer};
  return true;
}

}  // namespace tool
