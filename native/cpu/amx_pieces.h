// The positions of a convolution as the k of AMX tiles. A tile holds one position each of up to 32 pieces: equal
// rectangles of positions of one or more images. A tap moves the positions of all pieces alike, so that the tiles of x
// that one tap reads are those that its neighbours read, and no patches are gathered.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "cpu/amx_kernels.h"

namespace palimpsest::cpu {

struct AmxPieces {
  int64_t images, rows, columns;  // pieces of a tile: of images, and of the rows and columns of each
  int64_t height, width;          // positions of a piece
  int64_t groups;                 // of images
};

// Those that leave the least of the tiles empty, weighed against what packing them costs; `images` at most.
AmxPieces choose_pieces(const ConvShape& shape, int64_t images);

// Processor cycles, measured: of the products of a group of images; of packing tiles of x and of y_bar, whose tiles are
// turned; of the convolution's adjoint of the weights altogether.
double product_cycles(const ConvShape& shape, const AmxPieces& pieces);
double pack_cycles(const AmxPieces& pieces, double x_tiles, double y_tiles);
double piece_cycles(const ConvShape& shape, const AmxPieces& pieces);

// Channels [first, last), and the tiles from one column to the next.
struct AmxChannels {
  int64_t first, last, tiles;
};

// Which rows and columns of x the tiles of a piece read; a piece's first row and column are 0, pads below.
class AmxReach {
 public:
  AmxReach(const ConvShape& shape, const AmxPieces& pieces);

  int64_t row(int64_t i, int64_t kh) const { return i * shape_.stride_h + kh * shape_.dilation_h - shape_.pad_top; }
  int64_t column(int64_t j, int64_t kw) const { return j * shape_.stride_w + kw * shape_.dilation_w - shape_.pad_left; }
  // Whether any piece has it inside of x.
  bool has_row(int64_t h) const;
  // Among the columns that are read: -1 where no piece has it inside of x.
  int64_t place(int64_t w) const { return places_[static_cast<size_t>(w + shape_.pad_left)]; }
  const std::vector<int64_t>& columns() const { return columns_; }
  // Rows of x that `rows` rows of positions span.
  int64_t span(int64_t rows) const { return (rows - 1) * shape_.stride_h + (shape_.kh - 1) * shape_.dilation_h + 1; }

  // Tiles of a row, [column][channel tile], of x in columns() and of y_bar in all columns of a piece.
  void pack_x_row(const AmxKernels& kernels, const float* x, int64_t group, int64_t h, const AmxChannels& channels,
                  uint16_t* to) const;
  void pack_y_row(const AmxKernels& kernels, const float* y, int64_t group, int64_t i, const AmxChannels& outputs,
                  uint16_t* to) const;

 private:
  ConvShape shape_;
  AmxPieces pieces_;
  std::vector<int64_t> columns_, places_;
};

}  // namespace palimpsest::cpu
