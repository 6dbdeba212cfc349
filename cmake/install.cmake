# make install: the command, the library in both forms, the header, the manual page, completions for shells, a pkg-config
# file and a CMake package (find_package(palettize), targets palettize::palettize_shared and
# palettize::palettize_static).
install(TARGETS palettize RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS palettize_shared palettize_static EXPORT palettize-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES include/palettize.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_BINARY_DIR}/palettize.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${PROJECT_BINARY_DIR}/completions/palettize.bash RENAME palettize
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${PROJECT_BINARY_DIR}/completions/palettize.zsh RENAME _palettize
  DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${PROJECT_BINARY_DIR}/completions/palettize.fish
  DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

set(PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/palettize)
install(EXPORT palettize-targets NAMESPACE palettize:: DESTINATION ${PACKAGE_DIR})
configure_package_config_file(cmake/palettize-config.cmake.in palettize-config.cmake
  INSTALL_DESTINATION ${PACKAGE_DIR})
write_basic_package_version_file(palettize-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/palettize-config.cmake
  ${PROJECT_BINARY_DIR}/palettize-config-version.cmake DESTINATION ${PACKAGE_DIR})

configure_file(cmake/palettize.pc.in palettize.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/palettize.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
