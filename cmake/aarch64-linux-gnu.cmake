# 64-bit Arm Linux, by Debian's cross compiler (g++-aarch64-linux-gnu). The target's libraries are those under
# CMAKE_FIND_ROOT_PATH (tools/sysroot.sh makes such a folder) or, where it is empty, Debian's packages for arm64.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)  # glslang, spirv-val and Python are the host's
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CMAKE_FIND_ROOT_PATH)  # those read this file too
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${CMAKE_FIND_ROOT_PATH}")
set(ENV{PKG_CONFIG_LIBDIR}
    "${CMAKE_FIND_ROOT_PATH}/usr/lib/aarch64-linux-gnu/pkgconfig:${CMAKE_FIND_ROOT_PATH}/usr/share/pkgconfig")

# Tests run by qemu-user where it is installed; it finds C's libraries beside the cross compiler.
find_program(TESSERA_QEMU NAMES qemu-aarch64 qemu-aarch64-static DOC "qemu-user for 64-bit Arm")
if(TESSERA_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${TESSERA_QEMU} -L /usr/aarch64-linux-gnu)
endif()
