// The driver functions as one table, filled by cuInit with a real driver's or the host engine's.
#pragma once

#include "../gocp.h"

struct gocp_table {
  CUresult (*cuInit)(unsigned flags);
#define GOCP_FN(name, params, args) CUresult(*name) params;
#include "functions.inc"
#undef GOCP_FN
};
