#if defined(__GNUC__)
#define WW_PRINTF(at, first) __attribute__((__format__(__printf__, at, first)))
#else
#define WW_PRINTF(at, first)
#endif

/* Puts the digits of a number in front of `end`, two at a time; where they begin. */
static inline char *ww_log_digits(char *end, uint64_t number) {
    static const char pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    for (; number >= 100; number /= 100) memcpy(end -= 2, pairs + number % 100 * 2, 2);
    if (number >= 10) return WW_CHARS(memcpy(end - 2, pairs + number * 2, 2));
    *--end = pairs[number * 2 + 1];
    return end;
}

/* The same in base 16. */
static inline char *ww_log_hex(char *end, uint64_t number) {
    do *--end = "0123456789abcdef"[number & 15];
    while ((number >>= 4) != 0);
    return end;
}

/* Those of one with so many decimals, 1 to 9, rounded to the nearest; NULL where it is none, or too large or too small for that. */
static inline char *ww_log_decimal(char *end, double number, unsigned decimals) {
    const uint64_t half = WW_AS(uint64_t, 1) << 63, low_half = 0xffffffff;
    static const uint32_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};
    const uint64_t power = powers[decimals];
    uint64_t bits, whole, part, low, high, rest;
    double size = number < 0 ? -number : number;
    memcpy(&bits, &number, sizeof bits);
    if ((bits >> 52 & 2047) == 2047) return NULL; /* by its bits, as a compiler may be told that there is no such number */
    if (!(size < 9007199254740992.0) || (size < 1.0 / 2048 && size > 0)) return NULL;
    /* Nothing is rounded here: the last bit of such a number stands for 2^-63 or more. */
    whole = WW_AS(uint64_t, size);
    part = WW_AS(uint64_t, (size - WW_AS(double, whole)) * 18446744073709551616.0);
    /* The product has 128 bits: the upper 64 are the decimals, and the lower say how to round them, a half to the even. */
    low = (part & low_half) * power;
    high = (part >> 32) * power + (low >> 32);
    rest = high << 32 | (low & low_half);
    high >>= 32;
    if (rest > half || (rest == half && (high & 1) != 0)) high++;
    if (high == power) {
        high = 0;
        whole++;
    }
    end = ww_log_digits(end, power + high); /* with a 1 in front, which keeps the zeros */
    *end = '.';
    end = ww_log_digits(end, whole);
    if (bits >> 63 != 0) *--end = '-'; /* also of -0.0 */
    return end;
}

/* What vsnprintf() does, in a fraction of its time, for plain text and %d %i %u %x (also with l, ll and z) %s %c %% %.1f to %.9f;
 * -1 if there is anything else, or not enough room. Ends with no 0. */
static inline int ww_log_format(char *text, size_t size, const char *format, va_list values) {
    char digits[32], *const end = digits + sizeof digits, *at = text, *const last = text + size;
    for (;; format++) {
        const char *piece, *behind = strchr(format, '%');
        int longs = 0;
        size_t plain = behind == NULL ? strlen(format) : WW_SIZE(behind - format);
        if (plain > WW_SIZE(last - at)) return -1;
        memcpy(at, format, plain);
        at += plain;
        if (behind == NULL) return WW_AS(int, at - text);
        for (format = behind + 1; *format == 'l' && longs < 2; format++) longs++;
        if (*format == 'z' && longs == 0) {
            longs = 3;
            format++;
        }
        if (longs != 0 && *format != 'd' && *format != 'i' && *format != 'u' && *format != 'x') return -1;
        behind = end;
        switch (*format) {
        case 'd':
        case 'i': {
            int64_t given = longs == 0   ? va_arg(values, int)
                            : longs == 1 ? va_arg(values, long)
                            : longs == 2 ? va_arg(values, long long)
                                         : va_arg(values, ssize_t);
            char *first = ww_log_digits(end, given < 0 ? 0 - WW_AS(uint64_t, given) : WW_AS(uint64_t, given));
            if (given < 0) *--first = '-';
            piece = first;
            break;
        }
        case 'u':
        case 'x': {
            uint64_t given = longs == 0   ? va_arg(values, unsigned)
                             : longs == 1 ? va_arg(values, unsigned long)
                             : longs == 2 ? va_arg(values, unsigned long long)
                                          : va_arg(values, size_t);
            piece = *format == 'u' ? ww_log_digits(end, given) : ww_log_hex(end, given);
            break;
        }
        case '.':
            if (format[1] < '1' || format[1] > '9' || format[2] != 'f') return -1;
            if (ww_log_has_decimal_point() == 0) return -1;
            piece = ww_log_decimal(end, va_arg(values, double), WW_AS(unsigned, format[1] - '0'));
            format += 2;
            break;
        case 's':
            piece = va_arg(values, const char *);
            behind = piece == NULL ? NULL : piece + strlen(piece);
            break;
        case 'c':
            *digits = WW_AS(char, va_arg(values, int));
            piece = digits;
            behind = digits + 1;
            break;
        case '%':
            piece = format;
            behind = format + 1;
            break;
        default: return -1;
        }
        if (piece == NULL || behind - piece > last - at) return -1;
        memcpy(at, piece, WW_SIZE(behind - piece));
        at += behind - piece;
    }
}

/* Logs a message that is put together as by printf. Errors: as ww_log_write(), and -EINVAL the format, -ENOMEM. */
WW_PRINTF(6, 7)
static inline int ww_log_print(const ww_log *log, uint32_t level, const char *target, const char *file, uint32_t line,
                               const char *format, ...) {
    char text[1024], *message = text, *longer = NULL;
    va_list values;
    int length, result;
    va_start(values, format);
    length = ww_log_format(text, sizeof text, format, values);
    va_end(values);
    if (length < 0) {
        va_start(values, format);
        length = vsnprintf(text, sizeof text, format, values);
        va_end(values);
    }
    if (length < 0) return -EINVAL;
    if (WW_SIZE(length) >= sizeof text) {
        message = longer = WW_CHARS(malloc(WW_SIZE(length) + 1));
        if (longer == NULL) return -ENOMEM;
        va_start(values, format);
        length = vsnprintf(longer, WW_SIZE(length) + 1, format, values);
        va_end(values);
        if (length < 0) {
            free(longer);
            return -EINVAL;
        }
    }
    result = ww_log_write(log, level, target, file, line, message, WW_SIZE(length), NULL, 0);
    free(longer);
    return result;
}

/* Log a message with its place in the source, put together as by printf only if the level lets it through; 0 if not. The
 * compiler checks format and values. log and level are evaluated twice. */
#define WW_LOG(log, level, ...)                                                                                       \
    (ww_log_is_enabled(log, level) == 0 ? 0 : ww_log_print(log, level, NULL, __FILE__, __LINE__, __VA_ARGS__))
#define ww_log_trace(log, ...) WW_LOG(log, WW_LOG_TRACE, __VA_ARGS__)
#define ww_log_debug(log, ...) WW_LOG(log, WW_LOG_DEBUG, __VA_ARGS__)
#define ww_log_info(log, ...) WW_LOG(log, WW_LOG_INFO, __VA_ARGS__)
#define ww_log_warn(log, ...) WW_LOG(log, WW_LOG_WARN, __VA_ARGS__)
#define ww_log_error(log, ...) WW_LOG(log, WW_LOG_ERROR, __VA_ARGS__)
#define ww_log_fatal(log, ...) WW_LOG(log, WW_LOG_FATAL, __VA_ARGS__)
