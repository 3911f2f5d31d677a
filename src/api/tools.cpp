#include "tessera/tessera_tools.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "api/handles.h"
#include "formats/convert.h"
#include "formats/writer.h"

using namespace tessera;
using namespace tessera::api;

struct tessera_tensor_writer {
  std::string path, name;
  std::uint64_t columns = 0, rows = 0;
  // The file's header needs the number of rows, which only the end knows.
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> spill{nullptr, std::fclose};
};

namespace {

using Json = nlohmann::json;

std::string as_text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string to_json(const MetaValue& meta, std::uint32_t array_limit) {
  return std::visit(
      [&](const auto& value) {
        if constexpr (requires { value.size(); } &&
                      !std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
          Json array = Json::array();
          const std::size_t shown =
              array_limit == 0 ? value.size() : std::min<std::size_t>(array_limit, value.size());
          for (std::size_t i = 0; i < shown; ++i) array.push_back(value[i]);
          if (shown < value.size()) array.push_back("... " + std::to_string(value.size()) + " in all");
          return as_text(array);
        } else {
          return as_text(Json(value));
        }
      },
      meta.value);
}

void hand_out(const ModelFile& file, const tessera_inspect_sink& sink) {
  if (sink.file != nullptr)
    sink.file(sink.user, file.kind() == FileKind::gguf ? "GGUF" : "safetensors", file.version(),
              file.source().size());
  if (sink.metadata != nullptr)
    for (const auto& [key, value] : file.metadata())
      sink.metadata(sink.user, key.c_str(), to_json(value, sink.array_limit).c_str());
  if (sink.tensor == nullptr) return;
  for (const TensorInfo& t : file.tensors())
    sink.tensor(sink.user, t.name.c_str(), std::string(info(t.dtype).name).c_str(), t.shape.data(),
                static_cast<uint32_t>(t.shape.size()), t.offset, t.bytes);
  for (const ModelFile::Unsupported& t : file.unsupported_tensors())
    sink.tensor(sink.user, t.name.c_str(), t.type.c_str(), t.shape.data(),
                static_cast<uint32_t>(t.shape.size()), t.offset, t.bytes);
}

Result<ModelFile> open_file(const char* path) {
  TSR_CHECK(require(path, "path"));
  TSR_TRY(auto source, ByteSource::open(path));
  return ModelFile::open(std::move(source));
}

Result<DType> conversion_type(std::string_view name) {
  const auto wanted = parse_dtype(name);
  if (wanted && is_real(*wanted) && can_encode(*wanted)) return *wanted;
  std::string written;
  for (int i = 0; i <= static_cast<int>(DType::q6_k); ++i) {
    const auto type = static_cast<DType>(i);
    if (is_real(type) && can_encode(type)) written += (i == 0 ? "" : ", ") + std::string(info(type).name);
  }
  if (wanted && is_real(*wanted))
    return Error{Code::unsupported,
                 std::string(info(*wanted).name) +
                     " is read, but not written: its scales are searched for, which is left to "
                     "other programs; the types to convert to are " +
                     written};
  return Error{Code::invalid_argument, "'" + std::string(name) + "' is not one of " + written};
}

Result<void> write_tensor_file(tessera_tensor_writer& from) {
  TSR_TRY(SafetensorsWriter writer, SafetensorsWriter::create(from.path));
  TSR_CHECK(writer.add_tensor(from.name, DType::f32, {from.rows, from.columns}));
  std::rewind(from.spill.get());
  std::vector<float> row(from.columns);
  for (std::uint64_t r = 0; r < from.rows; ++r) {
    if (std::fread(row.data(), sizeof(float), row.size(), from.spill.get()) != row.size())
      return Error{Code::io, "the temporary file of '" + from.path + "' could not be read"};
    TSR_CHECK(writer.write_row(row));
  }
  return writer.finish();
}

// One tensor's bytes at a time.
Result<void> read_tensor(const ModelFile& file, const std::string& name, const std::string& type,
                         const std::vector<std::uint64_t>& shape, std::uint64_t offset, std::uint64_t bytes,
                         void (*tensor)(void*, const tessera_tensor*), void* user) {
  std::vector<std::byte> data(bytes);
  TSR_CHECK(file.source().read(offset, data));
  tessera_tensor out{};
  out.size = sizeof(out);
  out.name = name.c_str();
  out.type = type.c_str();
  out.shape = shape.data();
  out.dims = static_cast<uint32_t>(shape.size());
  out.data = data.data();
  out.bytes = bytes;
  tensor(user, &out);
  return {};
}

Result<void> write_tensor_files(const char* path, const tessera_tensor* tensors, uint32_t count) {
  TSR_TRY(SafetensorsWriter writer, SafetensorsWriter::create(path));
  std::vector<tessera_tensor> list;
  for (uint32_t i = 0; i < count; ++i) {
    const auto* at = reinterpret_cast<const std::byte*>(tensors) + i * tensors->size;
    TSR_TRY(const tessera_tensor t, sized(reinterpret_cast<const tessera_tensor*>(at), "tessera_tensor"));
    TSR_CHECK(require(t.name, "a tensor's name"));
    TSR_CHECK(require(t.type, "a tensor's type"));
    const auto dtype = parse_dtype(t.type);
    if (!dtype) return Error{Code::invalid_argument, "'" + std::string(t.type) + "' is no type of a tensor"};
    TSR_CHECK(writer.add_tensor(t.name, *dtype, {t.shape, t.shape + t.dims}));
    list.push_back(t);
  }
  for (const tessera_tensor& t : list)
    TSR_CHECK(writer.write({static_cast<const std::byte*>(t.data), t.bytes}));
  return writer.finish();
}

}  // namespace

extern "C" {

tessera_status tessera_read_tensors(const char* path,
                                    void (*tensor)(void* user, const tessera_tensor* tensor), void* user,
                                    tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(reinterpret_cast<const void*>(tensor), "tensor"));
    TSR_TRY(const ModelFile file, open_file(path));
    for (const TensorInfo& t : file.tensors())
      TSR_CHECK(read_tensor(file, t.name, std::string(info(t.dtype).name), t.shape, t.offset, t.bytes, tensor,
                            user));
    for (const ModelFile::Unsupported& t : file.unsupported_tensors()) {
      const std::string type = t.type.substr(0, t.type.find(" without elements"));
      TSR_CHECK(read_tensor(file, t.name, type, t.shape, t.offset, t.bytes, tensor, user));
    }
    return {};
  });
}

tessera_status tessera_write_tensors(const char* path, const tessera_tensor* tensors, uint32_t count,
                                     tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(path, "path"));
    if (count != 0) TSR_CHECK(require(tensors, "tensors"));
    return write_tensor_files(path, tensors, count);
  });
}

tessera_status tessera_inspect(const char* path, const tessera_inspect_sink* sink, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_TRY(const tessera_inspect_sink s, sized(sink, "tessera_inspect_sink"));
    TSR_TRY(const ModelFile file, open_file(path));
    hand_out(file, s);
    return {};
  });
}

tessera_status tessera_convert(const char* in_path, const char* out_path, const char* type,
                               const tessera_convert_sink* sink, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(out_path, "out_path"));
    TSR_CHECK(require(type, "type"));
    tessera_convert_sink s{};
    if (sink != nullptr) {
      TSR_TRY(s, sized(sink, "tessera_convert_sink"));
    }
    TSR_TRY(const DType dtype, conversion_type(type));
    TSR_TRY(const ModelFile file, open_file(in_path));
    TSR_TRY(const ConvertReport report, convert(file, out_path, dtype, make_progress(s.progress, s.user)));
    if (s.tensor == nullptr) return {};
    for (const ConvertReport::Tensor& t : report.tensors)
      s.tensor(s.user, t.name.c_str(), info(t.from).name.data(), info(t.to).name.data(), t.bytes_in,
               t.bytes_out);
    return {};
  });
}

tessera_status tessera_token_piece(const tessera_model* model, uint32_t id, tessera_bytes_fn sink, void* user,
                                   tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(model, "model"));
    if (!model->tokenizer.ok()) return model->tokenizer.error();
    const Tokenizer& tokenizer = **model->tokenizer;
    if (id >= tokenizer.size())
      return Error{Code::invalid_argument, "token id " + std::to_string(id) +
                                               " is outside the vocabulary of " +
                                               std::to_string(tokenizer.size())};
    const std::string piece = tokenizer.piece(id, true);
    if (sink != nullptr) sink(user, piece.data(), piece.size());
    return {};
  });
}

tessera_status tessera_tensor_writer_create(const char* path, const char* name, uint64_t columns,
                                            tessera_tensor_writer** writer, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(path, "path"));
    TSR_CHECK(require(name, "name"));
    TSR_CHECK(require(writer, "writer"));
    // Says now, not after minutes of work, that the path cannot be written.
    TSR_TRY(const SafetensorsWriter probe, SafetensorsWriter::create(path));
    auto made = std::make_unique<tessera_tensor_writer>();
    made->path = path;
    made->name = name;
    made->columns = columns;
    made->spill.reset(std::tmpfile());
    if (made->spill == nullptr) return Error{Code::io, "no temporary file can be made"};
    *writer = made.release();
    return {};
  });
}

tessera_status tessera_tensor_writer_row(tessera_tensor_writer* writer, const float* row,
                                         tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(writer, "writer"));
    TSR_CHECK(require(row, "row"));
    if (std::fwrite(row, sizeof(float), writer->columns, writer->spill.get()) != writer->columns)
      return Error{Code::io, "the temporary file of '" + writer->path + "' could not be written: no room?"};
    ++writer->rows;
    return {};
  });
}

tessera_status tessera_tensor_writer_close(tessera_tensor_writer* writer, int finish, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(writer, "writer"));
    const std::unique_ptr<tessera_tensor_writer> owned(writer);
    if (finish == 0) return {};
    return write_tensor_file(*owned);
  });
}

}  // extern "C"
