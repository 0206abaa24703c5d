# Writes the header that says which version and git revision this build is (called at build time).
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12
                OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT revision)
  set(revision unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT}
     CONTENT "#pragma once\n#define INFALIGN_VERSION \"${VERSION}\"\n#define INFALIGN_REVISION \"${revision}\"\n" @ONLY)
