# The hosts, as strict as a consumer may be.
add_executable(embed_c ${CMAKE_CURRENT_LIST_DIR}/embed.c)
set_target_properties(embed_c PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
target_compile_options(embed_c PRIVATE -Wall -Wextra -pedantic-errors -Werror)
target_link_libraries(embed_c PRIVATE tessera::tessera)

add_executable(embed_cpp ${CMAKE_CURRENT_LIST_DIR}/embed.cpp)
set_target_properties(embed_cpp PROPERTIES CXX_STANDARD 20 CXX_EXTENSIONS OFF)
target_compile_options(embed_cpp PRIVATE -Wall -Wextra -Wshadow -pedantic-errors -Werror -fno-exceptions -fno-rtti)
target_link_libraries(embed_cpp PRIVATE tessera::tessera)

if(TARGET tessera::tessera_glsl)
  add_executable(embed_glsl ${CMAKE_CURRENT_LIST_DIR}/embed_glsl.c)
  set_target_properties(embed_glsl PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
  target_compile_options(embed_glsl PRIVATE -Wall -Wextra -Wno-missing-field-initializers -pedantic-errors -Werror)
  target_link_libraries(embed_glsl PRIVATE tessera::tessera_glsl)
endif()
