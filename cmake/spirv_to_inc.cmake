# cmake -DSPIRV=module.spv -DOUT=module.inc -P: the words of a module as C++ integer literals.
file(READ ${SPIRV} hex HEX)
string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1," words "${hex}")
string(REGEX REPLACE "(0x........,0x........,0x........,0x........,0x........,0x........,0x........,0x........,)"
       "\\1\n" words "${words}")
file(WRITE ${OUT} "${words}\n")
