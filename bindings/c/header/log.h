#if defined(__GNUC__)
#define WW_PRINTF(at, first) __attribute__((__format__(__printf__, at, first)))
#else
#define WW_PRINTF(at, first)
#endif

/* Logs a message that is put together as by printf. Errors: as ww_log_write(), and -EINVAL the format, -ENOMEM. */
WW_PRINTF(6, 7)
static inline int ww_log_print(const ww_log *log, uint32_t level, const char *target, const char *file, uint32_t line,
                               const char *format, ...) {
    char text[1024], *message = text, *longer = NULL;
    va_list values;
    int length, result;
    va_start(values, format);
    length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
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
 * compiler checks format and values. */
#define WW_LOG(log, level, ...)                                                                                       \
    (ww_log_is_enabled(log, level) == 1 ? ww_log_print(log, level, NULL, __FILE__, __LINE__, __VA_ARGS__) : 0)
#define ww_log_trace(log, ...) WW_LOG(log, WW_LOG_TRACE, __VA_ARGS__)
#define ww_log_debug(log, ...) WW_LOG(log, WW_LOG_DEBUG, __VA_ARGS__)
#define ww_log_info(log, ...) WW_LOG(log, WW_LOG_INFO, __VA_ARGS__)
#define ww_log_warn(log, ...) WW_LOG(log, WW_LOG_WARN, __VA_ARGS__)
#define ww_log_error(log, ...) WW_LOG(log, WW_LOG_ERROR, __VA_ARGS__)
#define ww_log_fatal(log, ...) WW_LOG(log, WW_LOG_FATAL, __VA_ARGS__)
