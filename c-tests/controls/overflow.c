/* Overflows a signed number: the undefined-behaviour sanitizer must stop it. */
#include <limits.h>

#include <wigwag.h>

int main(void) {
    volatile int large = INT_MAX;
    large = large + (ww_version()[0] != 0);
    return 0;
}
