# Builds the addon where there is no CMake: native/sources.txt with the portable kernels, one set of flags for all.
{
  'targets': [{
    'target_name': 'palimpsest',
    'sources': ['<!@(node scripts/gyp_sources.mjs)'],
    'include_dirs': ['native', '.', '<!(node -p "require(\'node-addon-api\').include_dir")'],
    'defines': ['NAPI_VERSION=9', 'NAPI_CPP_EXCEPTIONS', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS', 'NDEBUG'],
    'cflags_cc!': ['-fno-exceptions', '-fno-rtti'],
    'cflags_cc': ['-std=c++20', '-O3', '-Wall', '-Wextra', '-Wno-missing-field-initializers', '-ffp-contract=off',
                  '-fopenmp', '-fvisibility=hidden', '-fvisibility-inlines-hidden'],
    'ldflags': ['-fopenmp'],
    'xcode_settings': {
      'CLANG_CXX_LANGUAGE_STANDARD': 'c++20',
      'GCC_ENABLE_CPP_EXCEPTIONS': 'YES',
      'GCC_ENABLE_CPP_RTTI': 'YES',
      'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
      'OTHER_CPLUSPLUSFLAGS': ['-ffp-contract=off', '-Wno-unknown-pragmas']
    },
    'msvs_settings': {
      'VCCLCompilerTool': { 'ExceptionHandling': 1, 'AdditionalOptions': ['/std:c++20', '/permissive-', '/utf-8'] }
    }
  }]
}
