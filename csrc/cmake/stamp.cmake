# Writes OUT (csrc/stamp.h), the archive's hash: Go sees that file, not the archive, so a changed
# archive relinks. Written only when it changes.
#   cmake -DARCHIVE=… -DOUT=… -P stamp.cmake
file(SHA256 "${ARCHIVE}" hash)
file(CONFIGURE OUTPUT "${OUT}" CONTENT "#define GOCP_BUILD_HASH \"${hash}\"\n" @ONLY)
