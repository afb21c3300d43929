# How every target of the project is made: warnings, sanitizers, include root, precompiled header.

add_library(sheaf_options INTERFACE)
target_include_directories(sheaf_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
# No FMA contraction: a row update gives the same bits on every machine, whatever vector width it was compiled for.
target_compile_options(sheaf_options INTERFACE -Wall -Wextra -ffp-contract=off -fno-math-errno -fno-trapping-math)
# Who uses no RocksDB does not load it.
target_link_options(sheaf_options INTERFACE -Wl,--as-needed)
if(SHEAF_WERROR)
  target_compile_options(sheaf_options INTERFACE -Werror)
endif()
if(SHEAF_PLANTED_BUGS)
  target_compile_definitions(sheaf_options INTERFACE SHEAF_PLANTED_BUGS)
endif()
if(SHEAF_SANITIZE)
  target_compile_options(sheaf_options INTERFACE -fsanitize=${SHEAF_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all)
  target_link_options(sheaf_options INTERFACE -fsanitize=${SHEAF_SANITIZE})
endif()

# The headers that most files include, compiled once. Off in the build of the fuzz targets, which so proves that the
# libraries' files include what they use.
if(SHEAF_PCH)
  add_library(sheaf_pch OBJECT ${CMAKE_CURRENT_LIST_DIR}/precompiled.cc)
  target_precompile_headers(sheaf_pch PRIVATE ${CMAKE_CURRENT_LIST_DIR}/precompiled.h)
  target_link_libraries(sheaf_pch PRIVATE sheaf_options sheaf_proto)
  # Not from a cache: one shared by several checkouts could hand out another checkout's headers.
  set_target_properties(sheaf_pch PROPERTIES CXX_COMPILER_LAUNCHER "")
endif()
function(sheaf_use_pch target)
  if(SHEAF_PCH)
    target_precompile_headers(${target} REUSE_FROM sheaf_pch)
  endif()
endfunction()

# Several sources are compiled as one: half the time of a build from nothing, and no file can be compiled by itself.
function(sheaf_unite target)
  if(SHEAF_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 6)
  endif()
endfunction()

# sheaf_library(NAME [DEPS ...] [PRIVATE_DEPS ...] [SUBDIRS ...]): a library of all sources of this folder (and
# SUBDIRS), but not main.cc, known as sheaf::NAME. NO_PCH: it is compiled with other options than the precompiled
# headers.
function(sheaf_library name)
  cmake_parse_arguments(ARG "NO_PCH" "" "DEPS;PRIVATE_DEPS;SUBDIRS" ${ARGN})
  set(globs *.cc *.h)
  foreach(dir IN LISTS ARG_SUBDIRS)
    list(APPEND globs ${dir}/*.cc ${dir}/*.h)
  endforeach()
  file(GLOB sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} ${globs})
  list(REMOVE_ITEM sources main.cc)
  add_library(sheaf_${name} STATIC ${sources})
  add_library(sheaf::${name} ALIAS sheaf_${name})
  target_link_libraries(sheaf_${name} PUBLIC sheaf_options ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
  set_target_properties(sheaf_${name} PROPERTIES LINKER_LANGUAGE CXX)
  if(NOT ARG_NO_PCH)
    sheaf_use_pch(sheaf_${name})
    sheaf_unite(sheaf_${name})
  endif()
endfunction()

# sheaf_executable(NAME DEPS ...): main.cc of this folder.
function(sheaf_executable name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  add_executable(${name} main.cc)
  target_link_libraries(${name} PRIVATE sheaf_options ${ARG_DEPS})
  sheaf_use_pch(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  install(TARGETS ${name} RUNTIME DESTINATION bin)
endfunction()

# Those tests that need no other program: unit, contract, threads, sim.
add_custom_target(sheaf_checks)

# sheaf_test(NAME DEPS ...): every *.cc of the folder NAME below this one, as one GoogleTest program.
function(sheaf_test name)
  cmake_parse_arguments(ARG "" "DIR;TIMEOUT" "DEPS" ${ARGN})
  if(NOT ARG_DIR)
    set(ARG_DIR ${name})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${ARG_DIR}/*.cc ${ARG_DIR}/*.h)
  if(NOT sources)
    return()
  endif()
  get_filename_component(kind ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(target ${kind}_${name}_test)
  add_executable(${target} ${sources})
  add_dependencies(sheaf_checks ${target})
  target_link_libraries(${target} PRIVATE sheaf_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  sheaf_use_pch(${target})
  sheaf_unite(${target})
  gtest_discover_tests(${target} TEST_PREFIX "${kind}.${name}." DISCOVERY_TIMEOUT 60
                       PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS ${kind})
endfunction()
