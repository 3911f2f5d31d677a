# The rooms of src/ in order of the data flow, and what each may include (docs/architecture.md draws it).
set(TESSERA_ROOMS base formats text graph models ops reference device kernels schedule session verify bench api)
set(TESSERA_GPU_ROOMS device kernels schedule verify bench api)  # need Vulkan headers and a GLSL compiler
set(TESSERA_FAST_ROOMS reference formats text)  # compute on the host
set(TESSERA_ROOM_base "")
set(TESSERA_ROOM_formats base)
set(TESSERA_ROOM_text base)
set(TESSERA_ROOM_graph base)
set(TESSERA_ROOM_models base formats graph)
set(TESSERA_ROOM_ops base graph)
set(TESSERA_ROOM_reference base graph)
set(TESSERA_ROOM_device base)
set(TESSERA_ROOM_kernels base device)
set(TESSERA_ROOM_schedule base graph kernels device)
set(TESSERA_ROOM_session base text graph models)
set(TESSERA_ROOM_verify base graph reference schedule)
set(TESSERA_ROOM_bench base graph reference device kernels schedule)
set(TESSERA_ROOM_api base formats text graph models ops reference device kernels schedule session verify bench)
