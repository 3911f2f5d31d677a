# SPIR-V modules from a catalogue: compiled, validated and turned into C++ arrays. Not through spirv-opt: drivers make
# the same code either way (docs/kernels/matmul.md).
include(${CMAKE_CURRENT_LIST_DIR}/ShaderCatalogue.cmake)
set(TESSERA_SHADER_CMAKE_DIR ${CMAKE_CURRENT_LIST_DIR})

# TESSERA_GLSLANG_HAS_<feature>: what the configured glslang can compile; TESSERA_SPIRV_VAL_KNOWS_<feature>: whether
# the validator is new enough for it. Asked once a glslang and version.
function(tessera_probe_glslang)
  execute_process(COMMAND ${TESSERA_GLSLANG} --version OUTPUT_VARIABLE version ERROR_QUIET)
  set(key "${TESSERA_GLSLANG} ${TESSERA_SPIRV_VAL} ${version}")
  string(SHA256 key "${key}")
  file(GLOB probes ${TESSERA_SHADER_CMAKE_DIR}/glslang_probes/*.comp)
  set(summary "")
  foreach(probe ${probes})
    get_filename_component(feature ${probe} NAME_WE)
    tessera_target_env(env ${feature})
    if(NOT "${TESSERA_GLSLANG_PROBED}" STREQUAL "${key}" OR NOT DEFINED TESSERA_GLSLANG_HAS_${feature})
      execute_process(COMMAND ${TESSERA_GLSLANG} --target-env ${env} -o ${CMAKE_BINARY_DIR}/probe.spv ${probe}
                      RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
      if(failed)
        set(has OFF)
      else()
        set(has ON)
      endif()
      set(TESSERA_GLSLANG_HAS_${feature} ${has} CACHE INTERNAL "glslang compiles ${probe}")
      set(unknown TRUE)
      if(has AND TESSERA_SPIRV_VAL)
        execute_process(COMMAND ${TESSERA_SPIRV_VAL} --target-env ${env} ${CMAKE_BINARY_DIR}/probe.spv
                        RESULT_VARIABLE unknown OUTPUT_QUIET ERROR_QUIET)
      endif()
      if(unknown)
        set(TESSERA_SPIRV_VAL_KNOWS_${feature} OFF CACHE INTERNAL "spirv-val accepts ${probe}")
      else()
        set(TESSERA_SPIRV_VAL_KNOWS_${feature} ON CACHE INTERNAL "spirv-val accepts ${probe}")
      endif()
    endif()
    list(APPEND summary "${feature}=${TESSERA_GLSLANG_HAS_${feature}}")
  endforeach()
  set(TESSERA_GLSLANG_PROBED ${key} CACHE INTERNAL "the glslang that was probed")
  list(JOIN summary " " summary)
  message(STATUS "glslang: ${TESSERA_GLSLANG} (${summary})")
endfunction()
tessera_probe_glslang()

# The prebuilt module of `name`, whose hash must be that of today's sources.
function(tessera_prebuilt_module out folder name source include_dir)
  set(spirv ${folder}/prebuilt/${name}.spv)
  if(NOT EXISTS ${spirv} OR NOT EXISTS ${folder}/prebuilt/${name}.hash)
    message(FATAL_ERROR "${name}: ${TESSERA_GLSLANG} cannot compile it and ${spirv} does not exist; "
                        "run tools/prebuild_shaders.sh with a newer glslang")
  endif()
  tessera_shader_hash(hash ${source} ${include_dir} ${ARGN})
  file(STRINGS ${folder}/prebuilt/${name}.hash recorded LIMIT_COUNT 1)
  if(NOT hash STREQUAL recorded)
    message(FATAL_ERROR "${spirv} is older than its sources; run tools/prebuild_shaders.sh with a newer glslang")
  endif()
  set(${out} ${spirv} PARENT_SCOPE)
endfunction()

# tessera_shader_catalogue(TARGET CATALOGUE file OUT folder): for every line of the catalogue, <OUT>/<name>.inc,
# and <OUT>/embed.inc that declares `spv_<name>`, `gz_<name>` and `origin_<name>`. Sources lie beside the catalogue.
function(tessera_shader_catalogue target)
  cmake_parse_arguments(arg "" "CATALOGUE;OUT" "" ${ARGN})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${arg_CATALOGUE})
  get_filename_component(folder ${arg_CATALOGUE} DIRECTORY)
  set(include_dir ${PROJECT_SOURCE_DIR}/shaders)
  file(MAKE_DIRECTORY ${arg_OUT})
  tessera_read_catalogue(k ${arg_CATALOGUE})
  set(embed "")
  set(outputs "")
  foreach(name ${k_NAMES})
    set(source ${folder}/${k_SOURCE_${name}}.comp)
    set(needs ${k_NEEDS_${name}})
    if(NOT needs STREQUAL "-" AND NOT DEFINED TESSERA_GLSLANG_HAS_${needs})
      message(FATAL_ERROR "${arg_CATALOGUE}: ${name} needs ${needs}, which has no probe in cmake/glslang_probes")
    endif()
    tessera_target_env(env ${needs})
    set(spirv ${arg_OUT}/${name}.spv)
    set(validate "")
    if(TESSERA_SPIRV_VAL AND (needs STREQUAL "-" OR TESSERA_SPIRV_VAL_KNOWS_${needs}))
      set(validate COMMAND ${TESSERA_SPIRV_VAL} --target-env ${env} ${spirv})
    endif()
    set(to_inc COMMAND ${CMAKE_COMMAND} -DNAME=${name} -DOUT=${arg_OUT}/${name}.inc)
    set(script -P ${TESSERA_SHADER_CMAKE_DIR}/spirv_to_inc.cmake)
    if(needs STREQUAL "-" OR TESSERA_GLSLANG_HAS_${needs})
      set(origin built)
      # The module first: ninja holds the depfile against the first output.
      add_custom_command(OUTPUT ${spirv} ${arg_OUT}/${name}.inc
        COMMAND ${TESSERA_GLSLANG} -g0 --quiet --target-env ${env} -I${include_dir} ${k_DEFINES_${name}}
                --depfile ${spirv}.d -o ${spirv} ${source}
        ${validate}
        ${to_inc} -DSPIRV=${spirv} ${script}
        DEPENDS ${source} ${TESSERA_SHADER_CMAKE_DIR}/spirv_to_inc.cmake ${TESSERA_SHADER_CMAKE_DIR}/gzip_to_hex.cmake
        DEPFILE ${spirv}.d COMMENT "Shader ${name}" VERBATIM)
    else()
      set(origin prebuilt)
      tessera_prebuilt_module(spirv ${folder} ${name} ${source} ${include_dir} ${k_DEFINES_${name}})
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source} ${folder}/prebuilt/${name}.hash)
      # Validated when it was made (tools/prebuild_shaders.sh): a validator may be as old as the glslang.
      add_custom_command(OUTPUT ${arg_OUT}/${name}.inc ${to_inc} -DSPIRV=${spirv} ${script}
        DEPENDS ${spirv} ${TESSERA_SHADER_CMAKE_DIR}/spirv_to_inc.cmake COMMENT "Shader ${name} (prebuilt)" VERBATIM)
    endif()
    list(APPEND outputs ${arg_OUT}/${name}.inc)
    string(APPEND embed "#include \"${name}.inc\"\n"
                        "inline constexpr std::string_view origin_${name} = \"${origin}\";\n")
  endforeach()
  file(CONFIGURE OUTPUT ${arg_OUT}/embed.inc CONTENT "${embed}")
  add_custom_target(${target} DEPENDS ${outputs})
endfunction()

# tessera_shader_texts(TARGET CATALOGUE file OUT folder DEFINES ... DEPENDS file ... KERNELS name ...): for modules that
# are made again with a user's functions, <OUT>/<name>.text.inc, the preprocessed text of the kernel with its own
# defines and these, and <OUT>/texts.inc that includes all. DEPENDS: files that only these defines include.
function(tessera_shader_texts target)
  cmake_parse_arguments(arg "" "CATALOGUE;OUT" "DEFINES;DEPENDS;KERNELS" ${ARGN})
  get_filename_component(folder ${arg_CATALOGUE} DIRECTORY)
  tessera_read_catalogue(k ${arg_CATALOGUE})
  list(TRANSFORM arg_DEFINES PREPEND -D)
  set(embed "")
  set(outputs "")
  foreach(name ${arg_KERNELS})
    set(source ${folder}/${k_SOURCE_${name}}.comp)
    set(text ${arg_OUT}/${name}.text)
    # The module of the same source carries the list of its includes.
    add_custom_command(OUTPUT ${text}.inc
      COMMAND ${TESSERA_GLSLANG} -E -S comp -I${PROJECT_SOURCE_DIR}/shaders ${k_DEFINES_${name}} ${arg_DEFINES} ${source}
              > ${text}
      COMMAND ${CMAKE_COMMAND} -DTEXT=${text} -DNAME=${name} -DOUT=${text}.inc
              -P ${TESSERA_SHADER_CMAKE_DIR}/text_to_inc.cmake
      DEPENDS ${arg_OUT}/${name}.spv ${arg_DEPENDS} ${TESSERA_SHADER_CMAKE_DIR}/text_to_inc.cmake
              ${TESSERA_SHADER_CMAKE_DIR}/gzip_to_hex.cmake
      COMMENT "Shader text ${name}" VERBATIM)
    list(APPEND outputs ${text}.inc)
    string(APPEND embed "#include \"${name}.text.inc\"\n")
  endforeach()
  file(CONFIGURE OUTPUT ${arg_OUT}/texts.inc CONTENT "${embed}")
  add_custom_target(${target} DEPENDS ${outputs})
endfunction()
