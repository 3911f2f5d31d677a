# cmake -DSPIRV=module.spv -DNAME=name -DOUT=module.inc -P: spv_<name>, the words of a module, for the compiler to check
# (nothing uses them at run time), and gz_<name>, the same through gzip, which the library holds.
include(${CMAKE_CURRENT_LIST_DIR}/gzip_to_hex.cmake)
file(READ ${SPIRV} hex HEX)
string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1," words "${hex}")
set(word "0x........,")
string(REGEX REPLACE "(${word}${word}${word}${word}${word}${word}${word}${word})" "\\1\n" words "${words}")
file(COPY_FILE ${SPIRV} ${OUT}.spv)
gzip_to_hex(bytes ${OUT}.spv)
file(WRITE ${OUT} "inline constexpr std::uint32_t spv_${NAME}[] = {\n${words}\n};\n"
                  "inline constexpr std::uint8_t gz_${NAME}[] = {\n${bytes}\n};\n")
