# A room is one folder of src/: an OBJECT library `tessera_<room>`, its sources and the rooms it may include.
# tests/layering.cmake checks the #include lines against the same list (TESSERA_ROOMS in cmake/Rooms.cmake).
include(${CMAKE_CURRENT_LIST_DIR}/Rooms.cmake)

# For programs that wait for the library: three quarters of the time to compile.
set(TESSERA_QUICK_TO_BUILD $<$<AND:$<CONFIG:Release>,$<CXX_COMPILER_ID:GNU,Clang>>:-O1>)

# tessera_room(NAME SOURCES a.cpp ... [LIBS ...] [HEADERS ...]); call in src/<NAME>/CMakeLists.txt. LIBS are linked
# wherever the room is; HEADERS, header-only libraries, are for its own sources alone.
function(tessera_room name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS;HEADERS" ${ARGN})
  set(target tessera_${name})
  add_library(${target} OBJECT ${arg_SOURCES})
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include
                                              ${PROJECT_SOURCE_DIR}/shaders ${PROJECT_BINARY_DIR}/generated)
  target_link_libraries(${target} PRIVATE tessera_warnings ${arg_HEADERS} PUBLIC ${arg_LIBS})
  set_target_properties(${target} PROPERTIES TESSERA_LIBS "${arg_LIBS}")
  if(NOT name IN_LIST TESSERA_FAST_ROOMS)  # the rest waits for a device or a file: half the code, as fast
    target_compile_options(${target} PRIVATE $<$<AND:$<CONFIG:Release>,$<CXX_COMPILER_ID:GNU,Clang>>:-Os>)
  endif()
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
                                             C_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
endfunction()

# All rooms that `rooms` may reach, themselves included.
function(tessera_room_closure out)
  set(all "")
  set(todo ${ARGN})
  while(todo)
    list(POP_FRONT todo room)
    if(NOT room IN_LIST all)
      list(APPEND all ${room})
      list(APPEND todo ${TESSERA_ROOM_${room}})
    endif()
  endwhile()
  set(${out} ${all} PARENT_SCOPE)
endfunction()

# tessera_link_rooms(TARGET room ...): links the rooms' objects and everything they reach.
function(tessera_link_rooms target)
  tessera_room_closure(rooms ${ARGN})
  foreach(room ${rooms})
    if(TARGET tessera_${room})
      target_link_libraries(${target} PRIVATE tessera_${room})
    endif()
  endforeach()
endfunction()

# tessera_embed_rooms(TARGET room ...): puts the same objects into a library that is installed, so that the rooms
# themselves stay out of its exported interface.
function(tessera_embed_rooms target)
  tessera_room_closure(rooms ${ARGN})
  foreach(room ${rooms})
    get_target_property(libs tessera_${room} TESSERA_LIBS)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:tessera_${room}>)
    target_link_libraries(${target} PRIVATE ${libs})
  endforeach()
endfunction()

# tessera_test(NAME ROOMS room ... SOURCES a_test.cpp ... [LIBS ...] [LABELS gpu]): one GoogleTest program. Those that
# need no device are built by the target tessera_host_tests.
function(tessera_test name)
  cmake_parse_arguments(arg "" "" "ROOMS;SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_compile_features(${name} PRIVATE cxx_std_20)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE TESSERA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_compile_options(${name} PRIVATE ${TESSERA_QUICK_TO_BUILD})
  if(TESSERA_SANITIZE MATCHES undefined)  # of what is tested; checks of the tests themselves are a third of the build
    target_compile_options(${name} PRIVATE -fno-sanitize=undefined)
  endif()
  tessera_link_rooms(${name} ${arg_ROOMS})
  target_link_libraries(${name} PRIVATE tessera_warnings GTest::gmock GTest::gtest_main ${arg_LIBS})
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}")
  if(NOT "gpu" IN_LIST arg_LABELS)
    add_dependencies(tessera_host_tests ${name})
  endif()
endfunction()
