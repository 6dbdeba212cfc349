#include "cluster/dkm.h"
