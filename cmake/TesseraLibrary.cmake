# libtessera from its rooms, and what stands on it: the tool, the benchmarks, the installation.
add_library(tessera)
add_library(tessera::tessera ALIAS tessera)
set_target_properties(tessera PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
                                         LINKER_LANGUAGE CXX)
target_include_directories(tessera PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                          $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
tessera_embed_rooms(tessera api)
if(BUILD_SHARED_LIBS AND UNIX AND NOT APPLE)
  target_link_options(tessera PRIVATE LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/tessera.map)
  set_target_properties(tessera PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/tessera.map)
endif()

if(TESSERA_TOOLS)
  add_subdirectory(apps)
endif()
if(TESSERA_BENCH)
  add_subdirectory(bench)
endif()
if(TESSERA_INSTALL)
  include(TesseraInstall)
endif()
