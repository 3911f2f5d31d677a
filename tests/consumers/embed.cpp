// The same host in C++20, without exceptions and RTTI.
#include <cstdio>
#include <tessera/tessera.hpp>

static int fail(const tessera::Failure& failure) {
  std::fprintf(stderr, "%s: %s\n", tessera::status_text(failure.status).c_str(), failure.message.c_str());
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  tessera_context_desc desc = TESSERA_INIT(tessera_context_desc);
  desc.device = "reference";
  auto context = tessera::Context::create(desc);
  if (!context) return fail(context.failure());
  auto model = context->load(argv[1]);
  if (!model) return fail(model.failure());
  auto session = model->session();
  if (!session) return fail(session.failure());
  const std::uint32_t prompt[] = {1, 2, 3};
  if (auto added = session->append(prompt); !added) return fail(added.failure());
  auto id = session->next();
  if (!id) return fail(id.failure());
  std::printf("%u\n", *id);
}
