/* Forgets an object: leak detection must see memory that Rust code took. */
#include <wigwag.h>

int main(void) {
    ww_address *address;
    if (ww_address_parse(&address, "sysv-mq:progfile#65?mode=0600") != 0) return 1;
    address = 0;
    return address != 0;
}
