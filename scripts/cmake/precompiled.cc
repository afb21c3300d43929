// An object library needs a source; its precompiled header is what it is for.
#include "scripts/cmake/precompiled.h"
