# cmake --install: library, public headers, tool, bundled model, CMake package and pkg-config file.
include(CMakePackageConfigHelpers)

install(TARGETS tessera EXPORT tessera_targets COMPONENT library)
set(not_installed "")
if(TESSERA_GLSL)
  install(TARGETS tessera_glsl EXPORT tessera_targets COMPONENT library)
else()
  set(not_installed PATTERN tessera_glsl.h EXCLUDE)
endif()
install(DIRECTORY include/tessera DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT library ${not_installed})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/tessera)
install(EXPORT tessera_targets NAMESPACE tessera:: FILE tessera-targets.cmake DESTINATION ${package} COMPONENT library)
if(BUILD_SHARED_LIBS)
  set(TESSERA_STATIC_DEPENDENCIES "")
else()
  set(TESSERA_STATIC_DEPENDENCIES [[
# libtessera.a leaves these to its users.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(PkgConfig)
foreach(module PCRE2=libpcre2-8 UTF8PROC=libutf8proc ZLIB=zlib)
  string(REPLACE "=" ";" module ${module})
  list(GET module 0 name)
  list(GET module 1 library)
  pkg_check_modules(${name} QUIET IMPORTED_TARGET ${library})
  if(NOT ${name}_FOUND)
    set(tessera_FOUND FALSE)
    set(tessera_NOT_FOUND_MESSAGE "static tessera needs ${library}")
    return()
  endif()
endforeach()]])
  if(TESSERA_GLSL)
    string(APPEND TESSERA_STATIC_DEPENDENCIES "\nfind_dependency(glslang CONFIG)")
  endif()
endif()
configure_package_config_file(cmake/tessera-config.cmake.in ${PROJECT_BINARY_DIR}/tessera-config.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tessera-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tessera-config.cmake ${PROJECT_BINARY_DIR}/tessera-config-version.cmake
        DESTINATION ${package} COMPONENT library)

# The .pc file finds the tree it lies in, so that an installation can be moved.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_LIBDIR BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX} OUTPUT_VARIABLE libdir)
cmake_path(SET up ${libdir}/pkgconfig)
string(REGEX REPLACE "[^/]+" ".." up ${up})
configure_file(cmake/tessera.pc.in ${PROJECT_BINARY_DIR}/tessera.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/tessera.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT library)

if(TESSERA_TOOLS)
  set_target_properties(tessera_tool PROPERTIES INSTALL_RPATH $ORIGIN/../${CMAKE_INSTALL_LIBDIR})
  install(TARGETS tessera_tool COMPONENT tool)
  # Where the tool looks for it: ../share/tessera beside bin/.
  if(EXISTS ${PROJECT_SOURCE_DIR}/models/tessera-tiny.gguf)
    install(FILES models/tessera-tiny.gguf DESTINATION share/tessera COMPONENT tool)
  endif()
endif()
