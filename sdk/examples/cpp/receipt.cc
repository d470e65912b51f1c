/*
 * A handler in C++17: writes a receipt for each order.
 *
 *     message    an item a line: how many, what, cents for one
 *
 *                    2 tea 350
 *                    1 pot 2400
 *
 *     config     {"out": DIRECTORY}
 *     result     DIRECTORY/KEY, or PARTITION-OFFSET if the message has no key
 *
 * Nothing in here throws into the worker daemon: exceptions are caught at the border, where each kind becomes a verdict. What an
 * order can never become (BadOrder) is parked; all else, a full disk or a directory that is not there yet, may pass, and is retried.
 *
 *     c++ -std=c++17 -shared -fPIC -I sdk/include -o receipt.so sdk/examples/cpp/receipt.cc -ljansson
 */
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include <jansson.h>

#include <sluice/handler.h>

namespace {

namespace fs = std::filesystem;

struct BadOrder : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct JsonFree {
    void operator()(json_t *json) const noexcept { json_decref(json); }
};
using Json = std::unique_ptr<json_t, JsonFree>;

std::string_view bytes_of(const sluice_slice &slice)
{
    return {static_cast<const char *>(slice.data), slice.size};
}

/* A file that is there as a whole or not at all: written under another name, and renamed when it is complete. */
class WholeFile {
public:
    explicit WholeFile(fs::path path) : path_(std::move(path)), part_(path_.string() + ".part")
    {
        file_.exceptions(std::ios::failbit | std::ios::badbit);
        file_.open(part_);
    }
    ~WholeFile()
    {
        std::error_code ignored;
        if (!done_)
            fs::remove(part_, ignored);
    }
    WholeFile(const WholeFile &) = delete;
    WholeFile &operator=(const WholeFile &) = delete;

    std::ostream &out() { return file_; }
    void finish()
    {
        file_.close();
        fs::rename(part_, path_);
        done_ = true;
    }

private:
    fs::path path_, part_;
    std::ofstream file_;
    bool done_ = false;
};

/* One of these lives as long as the process; it is what `process` points at. */
class Receipts {
public:
    explicit Receipts(const char *config)
    {
        const Json json(json_loads(config, 0, nullptr));
        const char *out = json_string_value(json_object_get(json.get(), "out"));
        if (out == nullptr)
            throw std::invalid_argument("config: 'out', the directory for receipts, is missing");
        out_ = out;
    }

    /* Twice is as good as once: the same order makes the same file. */
    void write(const sluice_task &task) const
    {
        const std::string text = text_of(bytes_of(task.value));
        WholeFile receipt(out_ / name_of(task));
        receipt.out() << text;
        receipt.finish();
    }

private:
    static std::string name_of(const sluice_task &task)
    {
        if (task.key.data == nullptr)
            return std::to_string(task.partition) + '-' + std::to_string(task.offset);
        std::string name(bytes_of(task.key));
        if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos)
            throw BadOrder("the key '" + name + "' is no name for a file");
        return name;
    }

    static std::string text_of(std::string_view value)
    {
        std::istringstream order{std::string(value)};
        std::ostringstream receipt;
        long total = 0;
        for (std::string line; std::getline(order, line);)
            total += put_item(receipt, line);
        if (total == 0)
            throw BadOrder("an order without items");
        receipt << "total " << total << '\n';
        return receipt.str();
    }

    static long put_item(std::ostream &receipt, const std::string &line)
    {
        std::istringstream words(line);
        long count = 0, cents = 0;
        std::string what;
        if (!(words >> count >> what >> cents) || count < 1 || cents < 0 || !(words >> std::ws).eof())
            throw BadOrder("'" + line + "' is not: how many, what, cents for one");
        receipt << count << ' ' << what << ' ' << count * cents << '\n';
        return count * cents;
    }

    fs::path out_;
};

/* ---- the border: C on the other side ---- */

template <size_t Size> void put_text(char (&to)[Size], const char *text) noexcept
{
    std::snprintf(to, Size, "%s", text);
}

int init(const sluice_host *host, void **process, char *error, size_t size) noexcept
{
    try {
        *process = new Receipts(host->config);
        return 0;
    } catch (const std::exception &e) {
        std::snprintf(error, size, "%s", e.what());
    } catch (...) {
        std::snprintf(error, size, "something that is no std::exception was thrown");
    }
    return 1;
}

void fini(const sluice_host *, void *process) noexcept
{
    delete static_cast<Receipts *>(process);
}

int handle(const sluice_host *, void *process, void *, const sluice_task *task, sluice_verdict *verdict) noexcept
{
    try {
        static_cast<const Receipts *>(process)->write(*task);
        return SLUICE_VERDICT_ACK;
    } catch (const BadOrder &e) {
        put_text(verdict->reason, "bad-order");
        put_text(verdict->error, e.what());
        return SLUICE_VERDICT_PARK;
    } catch (const std::exception &e) {
        put_text(verdict->error, e.what());
    } catch (...) {
        put_text(verdict->error, "something that is no std::exception was thrown");
    }
    return SLUICE_VERDICT_RETRY;
}

constexpr sluice_handler describe()
{
    sluice_handler h{};
    h.size = sizeof h;
    h.abi = SLUICE_HANDLER_ABI;
    h.name = "receipt";
    h.version = "1.0.0";
    h.process_init = init;
    h.process_fini = fini;
    h.handle = handle;
    return h;
}

} // namespace

SLUICE_HANDLER = describe();
