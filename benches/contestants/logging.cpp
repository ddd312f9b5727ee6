// wigwag's log in the harness that measures loggers side by side: one log of the host, one file.
#include "logging.hpp"

#include <wigwag.h>

struct Wigwag {
    std::string address;
    ww_log *opened = nullptr;
    explicit Wigwag(const char *path) : address("log:" + std::string(path).substr(5)) {
        ww_log_options options = WW_LOG_OPTIONS_INIT;
        options.file = path;
        CHECK(ww_log_open(&opened, address.c_str(), &options) == 0);
    }
    void log(uint64_t id, double x) { CHECK(ww_log_info(opened, "record %lu value %.3f of worker", id, x) == 0); }
    void close() { CHECK(ww_log_drain(opened, 60'000'000'000) == 0); }
    ~Wigwag() {
        ww_log_close(opened);
        ww_log_remove(address.c_str()); // the first of several processes; the others have it open
    }
};

int main(int argc, char **argv) { return log_cli(argc, argv, {{"wigwag", log_bench<Wigwag>}}); }
