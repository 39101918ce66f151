# Writes OUT (kernels_gen.h) from the kernel files and the oneDNN glue:
#   cmake -DOUT=… "-DKERNELS=a.cu;b.cu" "-DGLUE=c.cc" -P kernels.cmake
# A kernel is a line that begins `KERNEL name(`.
set(bodies "")
set(list "")
foreach(file IN LISTS KERNELS)
  string(APPEND bodies "#include \"${file}\"\n")
  file(STRINGS "${file}" lines REGEX "^KERNEL +[A-Za-z_0-9]+ *\\(")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^KERNEL +([A-Za-z_0-9]+).*" "\\1" name "${line}")
    string(APPEND list "GOCP_KERNEL(${name})\n")
  endforeach()
endforeach()

set(glue 0)
foreach(file IN LISTS GLUE)
  file(STRINGS "${file}" found REGEX "HostKernel gocp_onednn_kernels")
  if(found)
    set(glue 1)
  endif()
endforeach()

set(text "// Written by csrc/cmake/kernels.cmake.
#undef GOCP_HAVE_ONEDNN
#define GOCP_HAVE_ONEDNN ${glue}
#ifdef GOCP_KERNELS_BODIES
${bodies}#endif
#ifdef GOCP_KERNELS_LIST
${list}#endif
")
file(CONFIGURE OUTPUT "${OUT}" CONTENT "${text}" @ONLY)
