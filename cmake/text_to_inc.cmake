# cmake -DTEXT=preprocessed.comp -DNAME=name -DOUT=name.text.inc -P: glsl_<name>, the text of a shader through gzip.
# Lines of the files that it came from say nothing to its readers.
include(${CMAKE_CURRENT_LIST_DIR}/gzip_to_hex.cmake)
file(READ ${TEXT} text)
string(REGEX REPLACE "#line[^\n]*" "" text "${text}")
string(REGEX REPLACE "#extension GL_GOOGLE_include_directive[^\n]*" "" text "${text}")
string(REGEX REPLACE "\n[ \n]+" "\n" text "${text}")
file(WRITE ${TEXT} "${text}")
gzip_to_hex(bytes ${TEXT})
file(WRITE ${OUT} "inline constexpr std::uint8_t glsl_${NAME}[] = {\n${bytes}\n};\n")
