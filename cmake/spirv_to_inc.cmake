# cmake -DSPIRV=module.spv -DNAME=name -DOUT=module.inc -P: spv_<name>, the words of a module, for the compiler to check
# (nothing uses them at run time), and gz_<name>, the same through gzip, which the library holds.
file(READ ${SPIRV} hex HEX)
string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1," words "${hex}")
set(word "0x........,")
string(REGEX REPLACE "(${word}${word}${word}${word}${word}${word}${word}${word})" "\\1\n" words "${words}")

file(ARCHIVE_CREATE OUTPUT ${OUT}.gz PATHS ${SPIRV} FORMAT raw COMPRESSION GZip COMPRESSION_LEVEL 9)
file(READ ${OUT}.gz hex HEX)
string(SUBSTRING "${hex}" 0 8 head)
string(SUBSTRING "${hex}" 16 -1 tail)
set(hex "${head}00000000${tail}")  # no time: the same module, the same bytes
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")

file(WRITE ${OUT} "inline constexpr std::uint32_t spv_${NAME}[] = {\n${words}\n};\n"
                  "inline constexpr std::uint8_t gz_${NAME}[] = {\n${bytes}\n};\n")
