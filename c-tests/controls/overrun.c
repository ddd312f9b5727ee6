/* Has the library write past the end of a buffer: the sanitizer must see it inside Rust code. */
#include <stdlib.h>

#include <wigwag.h>

int main(void) {
    ww_address *address;
    char *text = malloc(8);
    if (text == NULL || ww_address_parse(&address, "sysv-mq:progfile#65?mode=0600") != 0) return 1;
    ww_address_print(address, text, 64, NULL); /* a lie: there are 8 bytes */
    ww_address_close(address);
    free(text);
    return 0;
}
